/// Where a model directory keeps its chat template.
enum HuggingFaceChatTemplate {
    /// The template, nil where there is none. Of several, the one called `default`. The order of
    /// places is that of the gguf package.
    static func read(_ directory: HuggingFaceDirectory) throws(ModelFileError) -> String? {
        if let object = try directory.object("tokenizer_config.json"),
            let template = try template(object)
        {
            return template
        }
        let name = "chat_template.jinja"
        if let bytes = try directory.text(name) {
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw ModelFileError(
                    path: directory.path(of: name), message: "expected text in UTF-8")
            }
            return text
        }
        return try directory.object("chat_template.json").flatMap { object throws(ModelFileError) in
            try template(object)
        }
    }

    private static func template(_ object: JSONObject) throws(ModelFileError) -> String? {
        let name = "chat_template"
        guard let value = object[name] else { return nil }
        if let text = value.string { return text }
        guard let several = value.elements else {
            throw object.error(name, "expected a text or several with names, found \(value.text)")
        }
        return several.first { $0["name"]?.string == "default" }?["template"]?.string
    }
}
