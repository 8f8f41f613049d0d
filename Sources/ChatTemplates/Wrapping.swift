/// Paragraphs cut into lines: Python's textwrap with the options that the filter `wordwrap` gives it.
struct Wrapping {
    let width: Int
    let breaksLongWords: Bool
    let breaksOnHyphens: Bool

    func lines(of text: Text) -> [Text] {
        var chunks = (breaksOnHyphens ? hyphenated(text.scalars) : words(text.scalars))[...]
        var lines: [Text] = []
        while !chunks.isEmpty {
            // A line begins with no space, but for the first.
            if Self.isBlank(chunks[chunks.startIndex]), !lines.isEmpty { chunks.removeFirst() }
            var line: [[Unicode.Scalar]] = []
            var room = width
            while let chunk = chunks.first, chunk.count <= room {
                line.append(chunk)
                room -= chunk.count
                chunks.removeFirst()
            }
            if let chunk = chunks.first, chunk.count > width {
                if breaksLongWords {
                    let end = breakPlace(chunk, room: max(room, width < 1 ? 1 : room))
                    line.append(Array(chunk[..<end]))
                    chunks[chunks.startIndex] = Array(chunk[end...])
                } else if line.isEmpty {
                    line.append(chunk)
                    chunks.removeFirst()
                }
            }
            if let last = line.last, Self.isBlank(last) { line.removeLast() }
            if !line.isEmpty { lines.append(Text(line.joined())) }
        }
        return lines
    }

    /// Where a word longer than a line is cut: behind a hyphen if one is in reach.
    private func breakPlace(_ chunk: [Unicode.Scalar], room: Int) -> Int {
        guard breaksOnHyphens, chunk.count > room,
            let hyphen = chunk[..<room].lastIndex(of: "-"), hyphen > 0,
            chunk[..<hyphen].contains(where: { $0 != "-" })
        else { return room }
        return hyphen + 1
    }

    private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        (0x09...0x0D).contains(scalar.value) || scalar == " "
    }

    private static func isBlank(_ chunk: [Unicode.Scalar]) -> Bool {
        chunk.allSatisfy { $0.isPythonSpace }
    }

    private func words(_ scalars: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
        var chunks: [[Unicode.Scalar]] = []
        for scalar in scalars {
            if let last = chunks.last?.last, Self.isSpace(last) == Self.isSpace(scalar) {
                chunks[chunks.count - 1].append(scalar)
            } else {
                chunks.append([scalar])
            }
        }
        return chunks
    }

    /// Words, spaces and parts of hyphenated words: textwrap's `wordsep_re`.
    private func hyphenated(_ scalars: [Unicode.Scalar]) -> [[Unicode.Scalar]] {
        func isLetter(_ index: Int) -> Bool {
            scalars.indices.contains(index) && scalars[index].isWord && !scalars[index].isDecimal
        }
        func isPunctuated(_ index: Int) -> Bool {
            scalars.indices.contains(index)
                && (scalars[index].isWord || "!\"'&.,?".unicodeScalars.contains(scalars[index]))
        }
        /// The end of two hyphens or more between words that begin at `index`.
        func dashEnd(_ index: Int) -> Int? {
            guard isPunctuated(index - 1) else { return nil }
            var end = index
            while end < scalars.count, scalars[end] == "-" { end += 1 }
            return end - index >= 2 && end < scalars.count && scalars[end].isWord ? end : nil
        }
        /// The end of a part of a word whose hyphen is at `index`.
        func hyphenEnd(_ index: Int) -> Int? {
            guard index < scalars.count, scalars[index] == "-", isLetter(index - 1),
                isLetter(index - 2)
                    || index >= 2 && scalars[index - 2] == "-" && isLetter(index - 3)
            else { return nil }
            let isJoined =
                isLetter(index + 1)
                && (isLetter(index + 2)
                    || index + 2 < scalars.count && scalars[index + 2] == "-"
                        && isLetter(index + 3))
            return isJoined ? index + 1 : nil
        }
        var chunks: [[Unicode.Scalar]] = []
        var place = 0
        while place < scalars.count {
            var end = place + 1
            if Self.isSpace(scalars[place]) {
                while end < scalars.count, Self.isSpace(scalars[end]) { end += 1 }
            } else if let dash = dashEnd(place) {
                end = dash
            } else {
                while end < scalars.count, !Self.isSpace(scalars[end]) {
                    if let hyphen = hyphenEnd(end) {
                        end = hyphen
                        break
                    }
                    if dashEnd(end) != nil { break }
                    end += 1
                }
            }
            chunks.append(Array(scalars[place..<end]))
            place = end
        }
        return chunks
    }
}
