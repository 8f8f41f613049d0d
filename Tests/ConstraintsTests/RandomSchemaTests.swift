import Foundation
import JSONTree
import Testing

@testable import Constraints

struct RandomSchemaTests {
    /// The driver of tools/test_schemas.py, which validates what is written here.
    @Test(.enabled(if: ProcessInfo.processInfo.environment["SLUICE_SCHEMA_CASES"] != nil))
    func writesAnswersForTheOracle() throws {
        let environment = ProcessInfo.processInfo.environment
        let path = try #require(environment["SLUICE_SCHEMA_CASES"])
        let output = try #require(environment["SLUICE_SCHEMA_OUTPUTS"])
        let seed = Int(environment["SLUICE_SCHEMA_SEED"] ?? "") ?? 0
        let cases = try JSON(parsing: Array(Data(contentsOf: URL(filePath: path))))
        var answers: [JSON] = []
        for (index, schema) in (cases.array ?? []).enumerated() {
            let constraint: Constraint
            do throws(ConstraintError) {
                constraint = try Constraint(schema: schema)
            } catch {
                answers.append(["schema": .integer(index), "refused": .string("\(error)")])
                continue
            }
            for walk in 0..<4 {
                let budget = [400, 150, 600, 250][walk]
                let result = Walk(constraint, tokens: budget, seed: seed &* 7919 &+ 10 * index &+ walk)
                answers.append(["schema": .integer(index), "text": .string(result.string)])
            }
        }
        try Data(JSON.array(answers).text.utf8).write(to: URL(filePath: output))
    }
}
