/// A picture in SVG, 320 units wide so that a text of 12 units is legible where a phone shows it.
struct Drawing {
    static let width = 320.0
    /// Units that a letter of the charts' text takes in a wide font: for cutting and for keeping
    /// apart.
    static let letterWidth = 7.2

    let height: Double
    private let title: String
    private let summary: String
    var markup = Markup()

    /// - Parameters:
    ///   - title: What the picture shows.
    ///   - summary: The same for those who cannot see it, with the figures that matter.
    init(height: Double, title: String, summary: String) {
        self.height = height
        self.title = title
        self.summary = summary
    }

    enum Anchor: String { case start, middle, end }

    mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, class name: String) {
        markup.empty(
            "line",
            [
                "class": name, "x1": Drawing.unit(x1), "y1": Drawing.unit(y1),
                "x2": Drawing.unit(x2), "y2": Drawing.unit(y2),
            ])
    }

    mutating func text(
        _ words: String, _ x: Double, _ y: Double, _ anchor: Anchor = .start,
        class name: String = ""
    ) {
        markup.element(
            "text",
            [
                "class": name, "x": Drawing.unit(x), "y": Drawing.unit(y),
                "text-anchor": anchor.rawValue,
            ], text: words)
    }

    /// A rectangle; `hint` is what a pointer held over it shows.
    mutating func rectangle(
        x: Double, y: Double, width: Double, height: Double, class name: String, hint: String = ""
    ) {
        let attributes: Markup.Attributes = [
            "class": name, "x": Drawing.unit(x), "y": Drawing.unit(y),
            "width": Drawing.unit(max(width, 0)), "height": Drawing.unit(max(height, 0)),
        ]
        if hint.isEmpty {
            markup.empty("rect", attributes)
        } else {
            markup.element("rect", attributes) { $0.element("title", text: hint) }
        }
    }

    /// Straight lines through `points`; nothing for less than two.
    mutating func path(_ points: [(x: Double, y: Double)], class name: String) {
        guard points.count > 1 else { return }
        var data = ""
        for (place, point) in points.enumerated() {
            data += "\(place == 0 ? "M" : "L")\(Drawing.unit(point.x)) \(Drawing.unit(point.y))"
        }
        markup.empty("path", ["class": name, "d": data])
    }

    /// The shape that tells a series from another without colours.
    mutating func marker(
        _ series: SeriesStyle, _ x: Double, _ y: Double, hint: String = ""
    ) {
        let attributes: Markup.Attributes = [
            "class": "mark \(series.colorClass)", "d": series.markerPath(x, y),
        ]
        if hint.isEmpty {
            markup.empty("path", attributes)
        } else {
            markup.element("path", attributes) { $0.element("title", text: hint) }
        }
    }

    /// The whole picture.
    var svg: Markup {
        var result = Markup()
        result.element(
            "svg",
            [
                "class": "chart",
                "viewBox": "0 0 \(Drawing.unit(Drawing.width)) \(Drawing.unit(height))",
                "role": "img",
            ]
        ) {
            $0.element("title", text: title)
            $0.element("desc", text: summary)
            $0.append(markup)
        }
        return result
    }

    /// A coordinate with one decimal at most.
    static func unit(_ value: Double) -> String {
        guard value.isFinite, value.magnitude < 1e9 else { return "0" }
        let tenths = Int((value * 10).rounded())
        let sign = tenths < 0 ? "-" : ""
        let whole = tenths.magnitude / 10
        let rest = tenths.magnitude % 10
        return rest == 0 ? "\(sign)\(whole)" : "\(sign)\(whole).\(rest)"
    }

    /// A number with so many decimals, for attributes.
    static func decimals(_ value: Double, _ digits: Int) -> String {
        Figure.fixed(value, digits).filter { $0 != "," }
    }

    /// `words`, cut in the middle where they are longer than `width` units.
    static func fitted(_ words: String, width: Double) -> String {
        let limit = max(Int(width / letterWidth), 4)
        guard words.count > limit else { return words }
        let kept = limit - 1
        return "\(words.prefix((kept + 1) / 2))\u{2026}\(words.suffix(kept / 2))"
    }
}

/// Colour, dashes and marker of the n-th series: never colour alone.
struct SeriesStyle {
    let index: Int

    static let colors = 6
    static let most = 8

    var colorClass: String { "c\(index % SeriesStyle.colors)" }
    var dashClass: String { "d\(index % 4)" }

    func markerPath(_ x: Double, _ y: Double) -> String {
        func at(_ dx: Double, _ dy: Double) -> String {
            "\(Drawing.unit(x + dx)) \(Drawing.unit(y + dy))"
        }
        switch index % 4 {
        case 0: return "M\(at(-4, 0))a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"
        case 1: return "M\(at(-3.5, -3.5))h7v7h-7z"
        case 2: return "M\(at(0, -4.6))L\(at(4.4, 3.6))L\(at(-4.4, 3.6))z"
        default: return "M\(at(0, -5))L\(at(5, 0))L\(at(0, 5))L\(at(-5, 0))z"
        }
    }
}
