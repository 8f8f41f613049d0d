/// Percent encoding, as the filter `urlencode` does it.
enum URLQuoting {
    /// A string quoted with its slashes, or the pairs of a dictionary or list as a query.
    static func query(of value: Value, _ interpreter: Interpreter) throws(TemplateError) -> Text {
        let pairs: [Value]
        switch value {
        case .string(let text):
            try interpreter.spend(bytes: 3 * text.utf8.count)
            return quoted(text, isQuery: false)
        case .dictionary(let dict): pairs = dict.pairs
        case .none, .bool, .integer, .float, .namespace, .macro, .function, .method, .cycler,
            .joiner:
            return quoted(try interpreter.string(value), isQuery: false)
        default: pairs = try interpreter.elements(of: value)
        }
        var result = Text()
        for (index, pair) in pairs.enumerated() {
            let parts = try interpreter.elements(of: pair)
            if parts.count != 2 { throw interpreter.fail("'urlencode' of what are no pairs") }
            if index > 0 { result.append("&") }
            result.append(quoted(try interpreter.string(parts[0]), isQuery: true))
            result.append("=")
            result.append(quoted(try interpreter.string(parts[1]), isQuery: true))
            try interpreter.spend(bytes: result.utf8.count)
        }
        return result
    }

    private static func quoted(_ text: Text, isQuery: Bool) -> Text {
        var result: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"), UInt8(ascii: "~"):
                result.append(byte)
            case UInt8(ascii: "/") where !isQuery: result.append(byte)
            case UInt8(ascii: " ") where isQuery: result.append(UInt8(ascii: "+"))
            default:
                let digits = Array("0123456789ABCDEF".utf8)
                result += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return Text(utf8: result)
    }
}
