import ArgumentParser
import ChatTemplates
import Glibc
import JSONTree

struct TemplateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "template",
        abstract: "Renders a chat template and prints exactly what a model would get.",
        discussion: """
            Standard input is one JSON object with the template's variables: messages, tools, \
            add_generation_prompt, bos_token, eos_token and any others.

            The variable now is the time that strftime_now prints: seconds since 1970, or a date and time such as \
            2024-07-26, 2024-07-26T18:30:05 (local time) or 2024-07-26T18:30:05Z. Without it the clock is read.

            Exit status 65 if the template or the variables are bad, or the template refuses them.
            """)

    @Option(help: "The template's file (Jinja).")
    var file: String

    func run() throws {
        try Failure.reporting {
            guard let text = String(validating: try Console.readFile(file), as: UTF8.self) else {
                throw InputError("\(file): not UTF-8", code: Failure.badData)
            }
            let variables = try Self.variables(of: try Console.readInput())
            do throws(TemplateError) {
                let now = variables["now"].flatMap(Self.seconds) ?? Self.clock
                Console.out(try ChatTemplate(text).render(variables, now: now))
            } catch {
                throw InputError("\(file): \(error)", code: Failure.badData)
            }
        }
    }

    private static func variables(of input: [UInt8]) throws -> JSONObject {
        let json: JSON
        do throws(JSONError) {
            json = try JSON(parsing: input)
        } catch {
            throw InputError("standard input: \(error)", code: Failure.badData)
        }
        guard let variables = json.object else {
            throw InputError(
                "standard input: expected an object of variables, found \(json.kind)",
                code: Failure.badData)
        }
        if let now = variables["now"], !now.isNull, seconds(now) == nil {
            throw InputError(
                "standard input: now is neither seconds since 1970 nor a date and time: \(now.text.prefix(80))",
                code: Failure.badData)
        }
        return variables
    }

    private static func seconds(_ now: JSON) -> Double? {
        now.number ?? now.string.flatMap { DateTime.secondsSince1970($0) }
    }

    private static var clock: Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}
