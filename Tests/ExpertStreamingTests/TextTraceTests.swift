import Testing

@testable import ExpertStreaming

@Suite struct TextTraceTests {

    private static let table = """
        # route_trace v1
        # model=/some where/My Model-Q4.gguf arch=qwen3moe n_layer=3 n_expert=8 n_expert_used=2
        # layer=1 expert_bytes=300 dense_bytes=7
        # layer=2 expert_bytes=200 dense_bytes=7
        turn,phase,step,layer,slot,expert,weight,residency,bytes
        0,0,0,1,0,3,0.75,0,0
        0,0,0,1,1,4,0.25,0,0
        0,0,1,1,0,7,0.5,0,0
        0,0,1,1,1,0,0.5,0,0
        0,0,1,2,0,1,1.0,0,0
        0,1,2,1,0,3,6e-1,1,0
        0,1,2,1,1,7,0.4,1,0
        0,1,2,2,0,5,0.6,0,200
        0,1,2,2,1,1,0.4,1,0

        """

    @Test func aTableIsReadTokenByToken() throws {
        let file = try TracePath(Self.table)
        let trace = try RoutingTrace(path: file.path)
        #expect(trace.shape.model == "My Model-Q4.gguf")
        #expect(trace.shape.architecture == "qwen3moe")
        // Layer 0 has no experts: the layers that have are 1 and 2.
        #expect(trace.shape.layerCount == 2)
        #expect(trace.shape.expertBytes == [300, 200])
        #expect(trace.phases == [.prefill, .prefill, .decode])
        #expect(Array(trace.experts(token: 0, layer: 0)) == [3, 4])
        #expect(trace.experts(token: 0, layer: 1).isEmpty)
        #expect(Array(trace.experts(token: 1, layer: 1)) == [1])
        #expect(Array(trace.experts(token: 2, layer: 1)) == [5, 1])
        #expect(trace.gateWeights[8...] == [0.6, 0.4, 0.6, 0.4])
        // Of the last token's four experts, the token before had 7 in the first layer, 1 in the second.
        #expect(trace.previousTokenOverlap == 0.5)
    }

    @Test(arguments: [
        ("0,1,2,1,0,8,0.5,0,0", "line 15, expert: not below 8"),
        ("0,1,2,3,0,1,0.5,0,0", "line 15, layer: 3 is not one of the layers"),
        ("0,1,2,1,2,1,0.5,0,0", "line 15, slot: not below 2"),
        ("0,1,2,1,0,1,0.5,0,0", "line 15, slot: step 2, layer 1, slot 0 comes twice"),
        ("0,2,3,1,0,1,0.5,0,0", "line 15, phase: not below 2"),
        ("0,1,3,1,0,x,0.5,0,0", "line 15, expert: not a whole number"),
        ("0,1,3,1,0", "line 15, slot: expected ','"), ("-1", "line 15, turn: not a whole number"),
        ("0,1,3,1,0,1,abc,0,0", "line 15, weight: 'abc' is not a number"),
        ("0,1,3,1,0,1,inf,0,0", "line 15, weight: 'inf' is not a number"),
        ("99999999999999999999,1,3,1,0,1,0,0,0", "line 15, turn: not below 4294967296"),
        ("0,1,3,1,0,5,1,0,0\n0,1,3,1,1,5,1,0,0", "turn 0, step 3, layer 0, rank 1: expert 5"),
        ("# layer=1 expert_bytes=-3", "line 15, expert_bytes: '-3' is not a number"),
    ])
    func aRowThatCannotBeIsRefusedByLineAndField(row: String, part: String) throws {
        let file = try TracePath(Self.table + row + "\n")
        let error = #expect(throws: TraceError.self) { try RoutingTrace(path: file.path) }
        #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
        #expect(error?.description.hasPrefix(file.path) == true)
    }

    @Test func aTableWithoutAShapeOrWithoutTokensIsRefused() throws {
        for text in [
            "# route_trace v1\n", "# route_trace v1", "# route_trace v1\n0,0,0,0,0,0,0.5,0,0\n",
            "# route_trace v1\n# n_layer=2 n_expert=4 n_expert_used=9\n0,0,0,0,0,0,0.5,0,0\n",
        ] {
            let file = try TracePath(text)
            #expect(throws: TraceError.self) { try RoutingTrace(path: file.path) }
        }
    }

    @Test func linesOfJSONAreReadTokenByToken() throws {
        let file = try TracePath(
            """
            {"tok": 17, "layers": [[6, 8], [7, 1]]}
            {"layers":[[6,1],[2,3]],"tok":18}

            """)
        let trace = try RoutingTrace(path: file.path)
        #expect(trace.shape == TraceShape(layerCount: 2, expertsPerLayer: 9, expertsPerToken: 2))
        #expect(trace.tokenIDs == [17, 18])
        #expect(trace.phases == [.decode, .decode])
        #expect(Array(trace.experts(token: 1, layer: 1)) == [2, 3])
        #expect(trace.previousTokenOverlap == 0.25)
        #expect(try RoutingTrace(path: file.path, expertBytes: 5).shape.expertBytes == [5, 5])
    }

    @Test(arguments: [
        ("{\"tok\": 1, \"layers\": [[1, 2], [3]]}", "has not the 2 layers of 2 experts"),
        ("{\"tok\": 1, \"layers\": []}", "line 1, layers: missing or empty"),
        ("{\"tok\": 1}", "layers: missing or empty"),
        ("{\"tok\": 1, \"layers\": [[1, -2]]}", "layers: not a whole number"),
        ("{\"tok\": 1, \"layers\": [[1, 1]]}", "expert 1 for the second time"),
        ("{\"tok\": 1, \"layers\": [[1, 65535]]}", "layers: not below 65535"),
        ("{\"tok\": 1, \"layers\": [[1, 2]", "layers: expected ']'"),
        ("{\"tok\": 1, \"layers\": [[1, 2]]", "token: expected '}'"),
        ("{\"tok\": 1, \"names\": 3}", "expected \"tok\" or \"layers\""),
        ("{\"tok\": 1, \"layers\": [[1, 2]]}\n{\"tok\": 2, \"layers\": [[1]]}", "token 1 has not"),
    ])
    func linesThatCannotBeAreRefused(text: String, part: String) throws {
        let file = try TracePath(text)
        let error = #expect(throws: TraceError.self) { try RoutingTrace(path: file.path) }
        #expect(error?.description.contains(part) == true, "\(error?.description ?? "")")
    }

    @Test(arguments: ["", "hello", "\u{0}\u{1}", "turn,phase", "SLUICE"])
    func whatIsNoTraceIsRefused(text: String) throws {
        let file = try TracePath(text)
        let error = #expect(throws: TraceError.self) { try RoutingTrace(path: file.path) }
        #expect(error?.description.contains("not a trace") == true)
    }
}
