/// Choices of requests that wait for a slot.
///
/// Each user has a line of their own, first come, first served. The next slot goes to the line of
/// the user who holds the fewest slots; of several such, to the one served longest ago. So a user
/// alone may take all slots, but gets the next only after everybody else who waits has as many.
struct RequestQueue {
    /// A text that a request wants.
    struct Choice {
        var ticket: Ticket
        var index: Int
    }

    private struct Line {
        var user: String
        var choices: [Choice]
        /// When this user got a slot last, in slots given; 0 is never.
        var served: UInt64
    }

    /// Lines in the order in which their users came; gone once they are empty.
    private var lines: [Line] = []
    /// When users without a line got a slot last. Only those that hold one matter, so it stays
    /// small.
    private var served: [String: UInt64] = [:]
    private var given: UInt64 = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }

    /// Requests none of whose choices has got a slot.
    private(set) var requestCount = 0

    /// Queues a new request's first choice; the others wait for the prompt to be computed.
    mutating func append(_ ticket: Ticket) {
        insert(Choice(ticket: ticket, index: 0), first: false)
        requestCount += 1
    }

    /// Queues the other choices of a request, before everything else of its user.
    mutating func appendOthers(of ticket: Ticket) {
        for index in stride(from: ticket.request.choices - 1, to: 0, by: -1) {
            insert(Choice(ticket: ticket, index: index), first: true)
        }
    }

    private mutating func insert(_ choice: Choice, first: Bool) {
        count += 1
        let user = choice.ticket.user
        guard let index = lines.firstIndex(where: { $0.user == user }) else {
            lines.append(Line(user: user, choices: [choice], served: served[user] ?? 0))
            return
        }
        lines[index].choices.insert(choice, at: first ? 0 : lines[index].choices.count)
    }

    /// Takes the choice that gets the next slot.
    ///
    /// - Parameter held: slots that users hold.
    mutating func next(held: [String: Int]) -> Choice? {
        let fairest = lines.indices.min { left, right in
            let (a, b) = (lines[left], lines[right])
            return (held[a.user] ?? 0, a.served) < (held[b.user] ?? 0, b.served)
        }
        guard let fairest else { return nil }
        given += 1
        lines[fairest].served = given
        let choice = lines[fairest].choices.removeFirst()
        count -= 1
        if choice.index == 0 { requestCount -= 1 }
        // Who holds no slot and waits for none starts anew.
        served = served.filter { held[$0.key] != nil }
        served[choice.ticket.user] = given
        if lines[fairest].choices.isEmpty { lines.remove(at: fairest) }
        return choice
    }

    /// Takes all choices whose ticket satisfies the condition.
    mutating func remove(where isWanted: (Ticket) -> Bool) -> [Choice] {
        var removed: [Choice] = []
        for index in lines.indices {
            removed += lines[index].choices.filter { isWanted($0.ticket) }
            lines[index].choices.removeAll { isWanted($0.ticket) }
        }
        lines.removeAll { $0.choices.isEmpty }
        count -= removed.count
        requestCount -= removed.count { $0.index == 0 }
        return removed
    }
}
