import Testing

@testable import Generation

@Suite struct RequestQueueTests {
    private func ticket(_ number: UInt64, _ user: String?, choices: Int = 1) -> Ticket {
        let (_, events) = Ticket.Events.makeStream()
        var request = GenerationRequest(prompt: [1])
        request.user = user
        request.choices = choices
        return Ticket(
            number: number, request: request, vocabulary: nil, submitted: 0, events: events,
            wake: {})
    }

    /// Takes everything while slots stay taken, as (request, choice).
    private func order(_ queue: inout RequestQueue, held: [String: Int] = [:]) -> [[Int]] {
        var held = held
        var order: [[Int]] = []
        while let choice = queue.next(held: held) {
            held[choice.ticket.user, default: 0] += 1
            order.append([Int(choice.ticket.number), choice.index])
        }
        return order
    }

    @Test func oneUserIsServedInOrder() {
        var queue = RequestQueue()
        for number in 1...4 { queue.append(ticket(UInt64(number), nil)) }
        #expect(queue.requestCount == 4)
        #expect(order(&queue) == [[1, 0], [2, 0], [3, 0], [4, 0]])
        #expect(queue.isEmpty && queue.requestCount == 0)
    }

    @Test func usersTakeTurnsHoweverManyRequestsOneHas() {
        var queue = RequestQueue()
        for number: UInt64 in 1...5 { queue.append(ticket(number, "many")) }
        queue.append(ticket(6, "few"))
        queue.append(ticket(7, nil))
        #expect(order(&queue) == [[1, 0], [6, 0], [7, 0], [2, 0], [3, 0], [4, 0], [5, 0]])
    }

    @Test func whoHoldsFewerSlotsIsServedFirst() {
        var queue = RequestQueue()
        for number: UInt64 in 1...3 { queue.append(ticket(number, "a")) }
        for number: UInt64 in 4...6 { queue.append(ticket(number, "b")) }
        // a has two slots already, so b gets two before a's third.
        #expect(
            order(&queue, held: ["a": 2]) == [[4, 0], [5, 0], [1, 0], [6, 0], [2, 0], [3, 0]])
    }

    @Test func amongEqualsTheOneServedLongestAgoIsNext() {
        var queue = RequestQueue()
        for number: UInt64 in 1...4 { queue.append(ticket(number, number % 2 == 1 ? "a" : "b")) }
        // Each ends before the next begins.
        var numbers: [UInt64] = []
        var holder = "b"
        while let choice = queue.next(held: [holder: 0]) {
            numbers.append(choice.ticket.number)
            holder = choice.ticket.user
        }
        #expect(numbers == [1, 2, 3, 4])
    }

    @Test func otherChoicesComeBeforeTheNextRequestOfTheirUser() {
        var queue = RequestQueue()
        let several = ticket(1, nil, choices: 3)
        queue.append(several)
        queue.append(ticket(2, nil))
        #expect(queue.next(held: [:])?.ticket.number == 1)
        queue.appendOthers(of: several)
        #expect(queue.count == 3 && queue.requestCount == 1)
        #expect(order(&queue) == [[1, 1], [1, 2], [2, 0]])
    }

    @Test func whatIsRemovedIsNotServed() {
        var queue = RequestQueue()
        for number: UInt64 in 1...4 { queue.append(ticket(number, "\(number % 2)")) }
        let removed = queue.remove { $0.number > 2 }
        #expect(removed.map(\.ticket.number).sorted() == [3, 4])
        #expect(queue.requestCount == 2)
        #expect(order(&queue) == [[1, 0], [2, 0]])
    }
}
