import Testing

@testable import Inference

@Suite struct MissPolicyTests {
    @Test func namesAndSettingsAreRead() throws {
        for (text, policy): (String, MissPolicy) in [
            ("exact", .exact),
            ("fallback", .fallback(full: 0.6, prefix: 0.9, planes: 1)),
            ("fallback,T1=0.5,T2=0.75,W=2", .fallback(full: 0.5, prefix: 0.75, planes: 2)),
            ("fallback,t2=1", .fallback(full: 0.6, prefix: 1, planes: 1)),
            ("drop,F=1", .drop(below: 1)),
            ("defer", .deferred(below: 1)),
            ("substitute,J=3,F=0.5", .substitute(below: 0.5, kept: 3)),
            ("max-rank,J=1,M=6", .maxRank(kept: 1, ranks: 6)),
            ("cumulative,P=0.8", .cumulative(kept: 2, probability: 0.8)),
            ("cache-prior,LAMBDA=0.5,J=1", .cachePrior(kept: 1, bonus: 0.5)),
        ] {
            #expect(try MissPolicy(text) == policy, "\(text)")
        }
    }

    @Test func aPolicyPrintsAsItIsGiven() throws {
        for name in MissPolicy.names {
            let policy = try MissPolicy(name)
            #expect(try MissPolicy(policy.description) == policy)
            #expect(policy.description.hasPrefix(name))
        }
    }

    @Test func whatIsNoPolicyIsRefusedByName() {
        for (text, word) in [
            ("", "fallback"), ("fast", "'fast'"), ("drop,F", "'F'"), ("drop,F=", "'F='"),
            ("drop,F=2", "F=2"), ("drop,F=nan", "F=nan"), ("drop,T1=0.5", "'t1'"),
            ("fallback,T1=0.9,T2=0.5", "T1"), ("fallback,W=5", "W=5"),
            ("fallback,T1=0.1,T1=0.2", "twice"), ("max-rank,J=0", "J=0"),
            ("max-rank,M=1.5", "M=1.5"), ("exact,F=1", "'f'"), ("drop,", "''"),
        ] {
            let error = #expect(throws: EngineError.self) { try MissPolicy(text) }
            #expect(error?.description.contains(word) == true, "\(text): \(error as Any)")
            #expect(error?.description.contains("\n") == false)
        }
    }

    @Test func settingsThatDoNothingAreWarnedAbout() throws {
        #expect(try MissPolicy("drop").warning(expertsPerToken: 4) != nil)
        #expect(try MissPolicy("drop").warning(expertsPerToken: 8) == nil)
        #expect(try MissPolicy("max-rank,M=8").warning(expertsPerToken: 8) != nil)
        #expect(try MissPolicy("max-rank,M=9").warning(expertsPerToken: 8) == nil)
        #expect(try MissPolicy("substitute,J=2").warning(expertsPerToken: 2) != nil)
    }
}
