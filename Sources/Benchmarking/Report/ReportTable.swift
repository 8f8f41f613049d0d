/// A table that becomes cards where it does not fit: each cell then carries its column's name.
struct ReportTable {
    struct Cell {
        var main: String
        /// Smaller lines below: least and greatest, or parts of the figure.
        var parts: [String]

        init(_ main: String, _ parts: String?...) {
            self.init(main, parts: parts.compactMap { $0 })
        }

        init(_ main: String, parts: [String]) {
            self.main = main
            self.parts = parts.filter { !$0.isEmpty }
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

    /// A row; how it was measured, and the command that measures it again, in a line below.
    mutating func add(_ cells: [Cell], note: String = "", command: String? = nil) {
        // A body per row, so that the two lines of a row make one card.
        body.element("tbody") { row in
            row.element("tr") { line in
                for (place, (column, cell)) in zip(columns, cells).enumerated() {
                    let content: (inout Markup) -> Void = {
                        $0.element("span", ["class": "main"], text: cell.main)
                        for part in cell.parts { $0.element("small", text: part) }
                    }
                    if place == 0 {
                        line.element("th", ["scope": "row"], content)
                    } else {
                        line.element("td", ["data-label": column], content)
                    }
                }
            }
            guard let command else { return }
            row.element("tr", ["class": "again"]) {
                $0.element("td", ["colspan": "\(columns.count)"]) {
                    if !note.isEmpty { $0.element("small", text: note) }
                    $0.element("details") {
                        $0.element("summary", text: "Measure again")
                        $0.element("pre", text: command)
                    }
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
                table.append(body)
            }
        }
        return result
    }
}
