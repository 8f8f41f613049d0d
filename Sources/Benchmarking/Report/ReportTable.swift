/// A table that becomes cards where it does not fit: each cell then carries its column's name.
struct ReportTable {
    struct Cell {
        var main: String
        /// A second line, smaller: least and greatest, or parts of the figure.
        var parts: String?

        init(_ main: String, _ parts: String? = nil) {
            self.main = main
            self.parts = parts.flatMap { $0.isEmpty ? nil : $0 }
        }
    }

    private let caption: String
    private let columns: [String]
    private var body = Markup()

    /// - Parameter columns: The first is each row's name.
    init(caption: String, columns: [String]) {
        self.caption = caption
        self.columns = columns
    }

    /// A row, and the command that makes it again.
    mutating func add(_ cells: [Cell], command: String? = nil) {
        body.element("tr") { line in
            for (place, cell) in cells.enumerated() {
                let content: (inout Markup) -> Void = {
                    $0.element("span", ["class": "main"], text: cell.main)
                    if let parts = cell.parts { $0.element("small", text: parts) }
                    if place == 0, let command {
                        $0.element("details") {
                            $0.element("summary", text: "Measure again")
                            $0.element("pre", text: command)
                        }
                    }
                }
                if place == 0 {
                    line.element("th", ["scope": "row"], content)
                } else {
                    let label = place < columns.count ? columns[place] : ""
                    line.element("td", ["data-label": label], content)
                }
            }
        }
        body.append(literal: "\n")
    }

    var markup: Markup {
        var result = Markup()
        result.element(
            "div", ["class": "scroll", "tabindex": "0", "role": "region", "aria-label": caption]
        ) {
            $0.element("table") { table in
                table.element("caption", text: caption)
                table.element("thead") {
                    $0.element("tr") { line in
                        for column in columns { line.element("th", ["scope": "col"], text: column) }
                    }
                }
                table.element("tbody") { $0.append(body) }
            }
        }
        return result
    }
}
