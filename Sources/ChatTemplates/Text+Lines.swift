extension Text {
    /// Python's `str.splitlines`: at all of Unicode's line breaks, not only at line feeds.
    func lines(keepingEnds: Bool = false) -> [Text] {
        let scalars = scalars
        var lines: [Text] = []
        var start = 0
        var place = 0
        while place < scalars.count {
            guard scalars[place].isLineBreak else {
                place += 1
                continue
            }
            let end = place
            place +=
                scalars[place] == "\r" && place + 1 < scalars.count && scalars[place + 1] == "\n"
                ? 2 : 1
            lines.append(Text(scalars[start..<(keepingEnds ? place : end)]).marked(like: self))
            start = place
        }
        if start < scalars.count { lines.append(Text(scalars[start...]).marked(like: self)) }
        return lines
    }

    /// Python's `str.split` and `rsplit` with a separator, which must not be empty.
    func split(by separator: Text, limit: Int, fromRight: Bool) -> [Text] {
        var borders: [Int] = []
        var left = limit < 0 ? Int.max : limit
        if fromRight {
            var end = utf8.count
            while left > 0, let place = findLast(separator, before: end) {
                borders.append(place)
                end = place
                left -= 1
            }
            borders.reverse()
        } else {
            var place = 0
            while left > 0, let next = find(separator, from: place) {
                borders.append(next)
                place = next + separator.utf8.count
                left -= 1
            }
        }
        var parts: [Text] = []
        var start = 0
        for border in borders {
            parts.append(bytes(start..<border))
            start = border + separator.utf8.count
        }
        parts.append(bytes(start..<utf8.count))
        return parts
    }

    /// Python's `str.split` and `rsplit` without a separator: at runs of white space.
    func splitAtSpace(limit: Int, fromRight: Bool) -> [Text] {
        let scalars = fromRight ? scalars.reversed() : scalars
        var left = limit < 0 ? Int.max : limit
        var parts: [Text] = []
        var place = 0
        while true {
            while place < scalars.count, scalars[place].isPythonSpace { place += 1 }
            if place == scalars.count { break }
            let start = place
            if left == 0 {
                // What is left stays one part, without the space at its far end.
                var end = scalars.count
                while end > start, scalars[end - 1].isPythonSpace { end -= 1 }
                parts.append(Text(scalars[start..<end]).marked(like: self))
                break
            }
            while place < scalars.count, !scalars[place].isPythonSpace { place += 1 }
            parts.append(Text(scalars[start..<place]).marked(like: self))
            left -= 1
        }
        if !fromRight { return parts }
        return parts.reversed().map { Text($0.scalars.reversed()).marked(like: self) }
    }

    /// Python's `str.expandtabs`. Columns of the result, or nil if they are more than `limit`.
    func expandingTabs(_ width: Int, limit: Int) -> Text? {
        var result = Text(isMarkup: isMarkup)
        var column = 0
        for scalar in scalars {
            if scalar == "\t" {
                let spaces = width > 0 ? width - column % width : 0
                if result.utf8.count + spaces > limit { return nil }
                result.append(Text.repeating(" ", spaces))
                column += spaces
            } else {
                result.append(scalar)
                column = scalar == "\n" || scalar == "\r" ? 0 : column + 1
            }
        }
        return result
    }
}
