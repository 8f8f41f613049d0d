/// A model file that cannot be used, and the place in it that says so.
///
/// Its text is one line, whatever the file contains: it ends up in logs and on terminals, so control
/// characters of names found in files are escaped there.
public struct ModelFileError: Error, CustomStringConvertible, Sendable {
    /// The file.
    public let path: String
    /// What was being read, as in `metadata key 'general.alignment'`; nil when it is the file as a whole.
    public let field: String?
    /// Byte of the file at which the field lies; nil when it has no place there.
    public let offset: UInt64?
    /// What was expected, what was found, and what to do.
    public let message: String

    public init(path: String, field: String? = nil, offset: UInt64? = nil, message: String) {
        self.path = path
        self.field = field
        self.offset = offset
        self.message = message
    }

    public var description: String {
        var text = path.onOneLine(limit: .max)
        if let field { text += ": " + field.onOneLine(limit: 400) }
        if let offset { text += (field == nil ? ": at offset " : " at offset ") + String(offset) }
        return text + ": " + message.onOneLine(limit: 1000)
    }
}

extension String {
    /// The text with everything that could break or repaint a line escaped, cut at `limit` scalars.
    func onOneLine(limit: Int) -> String {
        var line = ""
        var count = 0
        for scalar in unicodeScalars {
            if count == limit { return line + "..." }
            count += 1
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator:
                line += "\\u{" + String(scalar.value, radix: 16) + "}"
            default:
                line.unicodeScalars.append(scalar)
            }
        }
        return line
    }
}
