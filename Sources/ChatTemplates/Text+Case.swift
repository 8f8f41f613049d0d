// Letters as Python's str sees them (unicodectype.c and unicodeobject.c of CPython 3.11).

extension Unicode.Scalar {
    /// Python's `str.isspace`: bidirectional types WS, B and S, and the category Zs.
    var isPythonSpace: Bool {
        switch value {
        case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F,
            0x205F, 0x3000:
            true
        default: false
        }
    }

    var isLineBreak: Bool {
        switch value {
        case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029: true
        default: false
        }
    }

    var isLetter: Bool {
        switch properties.generalCategory {
        case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
            true
        default: false
        }
    }

    var isTitle: Bool { properties.generalCategory == .titlecaseLetter }

    var isDecimal: Bool { properties.numericType == .decimal }

    var isDigit: Bool { isDecimal || properties.numericType == .digit }

    var isAlphanumeric: Bool { isLetter || properties.numericType != nil }

    /// `\w` of Python's regular expressions.
    var isWord: Bool { self == "_" || isAlphanumeric }

    /// Whether `repr` shows it as it is.
    var isPrintable: Bool {
        switch properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
            .paragraphSeparator:
            false
        case .spaceSeparator: self == " "
        default: true
        }
    }

    /// The value of a decimal digit of any script.
    var decimalValue: Int? {
        guard isDecimal, let value = properties.numericValue else { return nil }
        return Int(value)
    }
}

extension Text {
    var uppercased: Text {
        mapping { result, scalar, _, _ in result.append(scalar.properties.uppercaseMapping) }
    }

    var lowercased: Text {
        mapping { result, scalar, scalars, index in
            Text.appendLower(scalar, of: scalars, at: index, to: &result)
        }
    }

    /// Python's `str.title`: a letter after a cased one is lower, any other is title case.
    var titlecased: Text {
        var isAfterCased = false
        return mapping { result, scalar, scalars, index in
            if isAfterCased {
                Text.appendLower(scalar, of: scalars, at: index, to: &result)
            } else {
                result.append(scalar.properties.titlecaseMapping)
            }
            isAfterCased = scalar.properties.isCased
        }
    }

    var capitalized: Text {
        mapping { result, scalar, scalars, index in
            if index == 0 {
                result.append(scalar.properties.titlecaseMapping)
            } else {
                Text.appendLower(scalar, of: scalars, at: index, to: &result)
            }
        }
    }

    var caseSwapped: Text {
        mapping { result, scalar, scalars, index in
            if scalar.properties.isUppercase {
                Text.appendLower(scalar, of: scalars, at: index, to: &result)
            } else if scalar.properties.isLowercase {
                result.append(scalar.properties.uppercaseMapping)
            } else {
                result.append(scalar)
            }
        }
    }

    private func mapping(
        _ body: (inout Text, Unicode.Scalar, [Unicode.Scalar], Int) -> Void
    ) -> Text {
        var result = Text(isMarkup: isMarkup)
        let scalars = scalars
        for (index, scalar) in scalars.enumerated() { body(&result, scalar, scalars, index) }
        return result
    }

    /// A sigma at a word's end has a form of its own: SpecialCasing.txt, Final_Sigma.
    private static func appendLower(
        _ scalar: Unicode.Scalar, of scalars: [Unicode.Scalar], at index: Int,
        to result: inout Text
    ) {
        guard scalar == "\u{3A3}" else {
            result.append(scalar.properties.lowercaseMapping)
            return
        }
        let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
        let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
        let isFinal = before?.properties.isCased == true && after?.properties.isCased != true
        result.append(isFinal ? "\u{3C2}" as Unicode.Scalar : "\u{3C3}")
    }

    /// Not empty, and every code point passes.
    func all(_ test: (Unicode.Scalar) -> Bool) -> Bool {
        !isEmpty && scalars.allSatisfy(test)
    }

    /// Has cased letters, and none is lower or title case.
    var isUpper: Bool {
        var isCased = false
        for scalar in scalars {
            if scalar.properties.isLowercase || scalar.isTitle { return false }
            if scalar.properties.isUppercase { isCased = true }
        }
        return isCased
    }

    /// Has cased letters, and none is upper or title case.
    var isLower: Bool {
        var isCased = false
        for scalar in scalars {
            if scalar.properties.isUppercase || scalar.isTitle { return false }
            if scalar.properties.isLowercase { isCased = true }
        }
        return isCased
    }

    /// Upper and title case only after uncased letters, lower case only after cased ones.
    var isTitlecased: Bool {
        var isCased = false
        var isAfterCased = false
        for scalar in scalars {
            if scalar.properties.isUppercase || scalar.isTitle {
                if isAfterCased { return false }
                isAfterCased = true
                isCased = true
            } else if scalar.properties.isLowercase {
                if !isAfterCased { return false }
                isCased = true
            } else {
                isAfterCased = false
            }
        }
        return isCased
    }
}
