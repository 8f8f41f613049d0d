import Testing

@testable import ExpertStreaming

@Suite struct EvictionPolicyTests {

    @Test(arguments: [
        ("lru", EvictionPolicy.lru), ("LRU", .lru), ("slru:0.25", .slru(protectedShare: 0.25)),
        ("lfu:none", .lfu(halfLife: nil)), ("lfu:64", .lfu(halfLife: 64)),
        ("lfu:1.5", .lfu(halfLife: 1.5)), ("lfru", .lfru), ("edgemoe", .edgemoe),
        ("segment:16", .segment(tokens: 16)), ("Segment:1", .segment(tokens: 1)),
        (
            "hobbit:0.4,0.2,0.3,0.1",
            .hobbit(
                HobbitWeights(
                    recency: 0.4, frequency: 0.2, fullWidth: 0.3, layerDistance: 0.1)!)
        ),
    ])
    func textIsReadAsWritten(text: String, policy: EvictionPolicy) throws {
        #expect(try EvictionPolicy(text) == policy)
    }

    @Test func whatAPolicyPrintsReadsAsTheSamePolicy() throws {
        for policy in EvictionPolicy.all {
            #expect(try EvictionPolicy(policy.description) == policy)
        }
    }

    @Test func everyNameAloneIsAPolicyWithItsUsualSettings() throws {
        let policies = try EvictionPolicy.names.map { try EvictionPolicy($0) }
        #expect(policies == EvictionPolicy.all)
    }

    @Test(arguments: [
        ("", "policy '' is unknown; known are lru, slru, lfu, lfru, hobbit, edgemoe, segment"),
        ("mru", "policy 'mru' is unknown"), ("lru:1", "lru takes no settings; write 'lru'"),
        ("edgemoe:", "edgemoe takes no settings"), ("slru:1.5", "write a number from 0 to 1"),
        ("slru:-1", "'-1' is no share"), ("slru:", "'' is no share"),
        ("lfu:0", "'0' is no half-life"), ("lfu:0.5", "write a number from 1 on"),
        ("lfu:inf", "'inf' is no half-life"), ("segment:0", "'0' is no number of tokens"),
        ("segment:1.5", "write a whole number"),
        ("segment:99999999999999999999", "is no number of tokens"),
        ("hobbit:1", "four weights that add up to 1"),
        ("hobbit:0.4,0.2,0.2", "four weights"), ("hobbit:0.4,0.2,0.2,0.3", "add up to 1"),
        ("hobbit:0.4,0.2,0.2,", "four weights"), ("hobbit:nan,1,0,0", "four weights"),
        ("hobbit:0,0,0,0", "add up to 1"),
    ])
    func textThatIsNoPolicyIsRefusedWithARemedy(text: String, part: String) {
        let error = #expect(throws: EvictionPolicyError.self) { try EvictionPolicy(text) }
        #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
        #expect(error?.description.contains("\n") == false)
    }
}
