/// Names of a chart's lines and areas, as text beside small samples: text wraps, drawings do not.
struct Legend {
    private var items = Markup()

    var markup: Markup {
        var list = Markup()
        list.element("ul", ["class": "legend"]) { $0.append(items) }
        return list
    }

    mutating func curve(_ style: SeriesStyle, _ words: String) {
        item(words) {
            $0.empty(
                "path", ["class": "curve \(style.colorClass) \(style.dashClass)", "d": "M1 7h32"])
            $0.empty("path", ["class": "mark \(style.colorClass)", "d": style.markerPath(17, 7)])
        }
    }

    mutating func line(class name: String, _ words: String) {
        item(words) { $0.empty("path", ["class": name, "d": "M1 7h32"]) }
    }

    mutating func area(class name: String, opacity: String = "1", _ words: String) {
        item(words) {
            $0.empty(
                "rect",
                [
                    "class": name, "x": "9", "y": "1", "width": "16", "height": "12",
                    "fill-opacity": opacity,
                ])
        }
    }

    mutating func note(_ words: String) { items.element("li", ["class": "dim"], text: words) }

    private mutating func item(_ words: String, _ sample: (inout Markup) -> Void) {
        items.element("li") {
            $0.element(
                "svg", ["class": "sample", "viewBox": "0 0 34 14", "aria-hidden": "true"], sample)
            $0.element("span", text: words)
        }
    }
}
