/// Why a template cannot be read or rendered, and where.
public struct TemplateError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The template's line, from 1.
    public let line: Int
    /// What is wrong with which construct, or what the template itself says with `raise_exception`.
    public let problem: String
    /// The template refused its variables with `raise_exception`: the conversation is at fault, and not the template.
    public let isRaised: Bool

    init(line: Int, _ problem: String, isRaised: Bool = false) {
        self.line = line
        self.problem = problem
        self.isRaised = isRaised
    }

    /// One line, whatever the template put into its message.
    public var description: String {
        var text = "line \(line): "
        for scalar in problem.unicodeScalars {
            switch scalar {
            case "\n": text += "\\n"
            case "\t": text += "\\t"
            case _
            where scalar.value < 32 || (0x7F..<0xA0).contains(scalar.value)
                || scalar == "\u{2028}" || scalar == "\u{2029}":
                text += " "
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
