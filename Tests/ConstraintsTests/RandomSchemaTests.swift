import Foundation
import JSONTree
import Testing

@testable import Constraints

struct RandomSchemaTests {
    /// Schemas that tools/test_schemas.py has made, and a model that takes any token it is offered.
    @Test(arguments: 0..<8) func everyAnswerFulfilsItsSchema(share: Int) throws {
        let schemas = try #require(Fixtures.json("schemas.json").array)
        var count = 0
        for index in stride(from: share, to: schemas.count, by: 8) {
            let schema = schemas[index]
            // The few that cannot be fulfilled, or have unique items of any kind.
            guard let constraint = try? Constraint(schema: schema) else { continue }
            count += 1
            let budget = [60, 100, 160][index % 3]
            let walk = Walk(constraint, tokens: budget, seed: index)
            var start = ConstraintMatcher(constraint, vocabulary: SmallVocabulary.shared.vocabulary)
            guard start.leastTokensToEnd <= budget else { continue }
            #expect(walk.isComplete, "\(schema.text): \(walk.string)")
            let value = try JSON(parsing: walk.text)
            let isValid = SchemaValidator(root: schema).isValid(value, schema)
            #expect(isValid, "\(schema.text): \(walk.string)")
        }
        #expect(count > 24)
    }

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
                let result = Walk(
                    constraint, tokens: budget, seed: seed &* 7919 &+ 10 * index &+ walk)
                answers.append(["schema": .integer(index), "text": .string(result.string)])
            }
        }
        try Data(JSON.array(answers).text.utf8).write(to: URL(filePath: output))
    }
}
