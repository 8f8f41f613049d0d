/// Which free slot a request gets, and where the beginning of its prompt comes from.
///
/// Of all slots, busy ones too, the one that begins most like the prompt is the source. A free source
/// is used in place, if that loses no more than it saves: at least half of what it holds is the
/// prompt's. Otherwise the slot used longest ago gets a copy, and the source keeps what it has.
struct SlotPlace: Equatable {
    let slot: Int
    /// The slot whose first `count` positions are the prompt's.
    let source: Int
    /// Fewer than the prompt's tokens: logits come from computing the last one.
    let count: Int

    /// - Parameters:
    ///   - slots: At least one is free.
    ///   - reusable: How much of what a slot has in common with the prompt can be used: see
    ///     `Engine.reusablePositions(common:of:)`.
    init(
        _ slots: [EngineLoop.Slot], for ticket: Ticket,
        reusable: (_ common: Int, _ slot: Int) -> Int
    ) {
        let request = ticket.request
        let most = request.echoLogprobs ? 0 : request.prompt.count - 1
        func common(_ index: Int) -> Int {
            let slot = slots[index]
            // The choices of one request share their prompt in any case.
            guard request.usesPrefixCache || slot.owner == ticket.number else { return 0 }
            return reusable(SlotPlace.common(slot.tokens, request.prompt, most: most), index)
        }
        let free = slots.indices.filter { slots[$0].run == nil }
        let oldest = free.min { slots[$0].lastUse < slots[$1].lastUse }!
        var source = oldest
        var count = common(oldest)
        // A free one before a busy one that has as much.
        for index in free + slots.indices.filter({ slots[$0].run != nil }) {
            let shared = common(index)
            if shared > count { (source, count) = (index, shared) }
        }
        let staysInPlace = slots[source].run == nil && count * 2 >= slots[source].tokens.count
        slot = staysInPlace ? source : oldest
        self.source = source
        self.count = count
    }

    /// How many tokens two texts begin with alike, at most `most`.
    static func common(_ left: [Int32], _ right: [Int32], most: Int) -> Int {
        var count = 0
        let end = min(most, left.count, right.count)
        while count < end, left[count] == right[count] { count += 1 }
        return count
    }
}
