import FoundationEssentials
import Testing

/// The same as Python, byte for byte.
struct PythonTests {
    /// More cases than are committed: what `tools/make_template_fixtures.py --cases FILE` has written.
    @Test(
        .enabled(
            if: ProcessInfo.processInfo.environment["SLUICE_TEMPLATE_CASES"] != nil,
            "SLUICE_TEMPLATE_CASES does not name a file of cases"))
    func casesOfAFile() throws {
        let path = try #require(ProcessInfo.processInfo.environment["SLUICE_TEMPLATE_CASES"])
        let cases = try TemplateCase.cases(at: path)
        try #require(!cases.isEmpty)
        for some in cases {
            if let difference = some.difference { Issue.record("\(difference)") }
        }
    }
}
