import JSONTree
import OpenAIAPI

/// What the tools of a request say about their arguments, for formats that write every argument as
/// plain text: is `5` a number or a string?
struct ToolSchemas: Sendable {
    private var parameters: [String: JSON] = [:]

    init(_ tools: [ToolDefinition]) {
        for tool in tools { parameters[tool.name] = tool.parameters }
    }

    /// The JSON text of a value.
    ///
    /// - Parameter isString: what the model itself says about it, where the format lets it.
    func json(_ value: String, of key: String, tool: String, isString: Bool?) -> [UInt8] {
        var bytes: [UInt8] = []
        if isString ?? takesOnlyStrings(key, tool: tool) {
            JSON.appendQuoted(value, to: &bytes)
            return bytes
        }
        // Some models write Python's words.
        let words = ["True": "true", "False": "false", "None": "null"]
        let text = words[value] ?? value
        (((try? JSON(parsing: text))) ?? .string(value)).appendText(to: &bytes)
        return bytes
    }

    private func takesOnlyStrings(_ key: String, tool: String) -> Bool {
        guard let property = parameters[tool]?["properties"]?[key] else { return false }
        if let type = property["type"]?.string { return type == "string" }
        if let values = property["enum"]?.array { return values.allSatisfy { $0.string != nil } }
        return false
    }
}
