import ArgumentParser
import Benchmarking
import ExpertStreaming
import Glibc
import Inference
import Measuring
import ModelFormats
import Profiling
import Serving
import SluiceClient

/// Turns what the rooms throw into one line on stderr and an exit status of sysexits.h.
enum Failure {
    static let usage = ExitCode(64)
    static let badData = ExitCode(65)
    static let noInput = ExitCode(66)
    static let unavailable = ExitCode(69)
    static let software = ExitCode(70)
    static let cannotCreate = ExitCode(73)
    static let disk = ExitCode(74)
    static let configuration = ExitCode(78)

    /// Runs `body`; what it throws is printed, and becomes an `ExitCode`.
    static func reporting(_ body: () throws -> Void) throws {
        do {
            try body()
        } catch let error as ExitCode {
            throw error
        } catch let error as ModelFileError {
            throw report("\(error)", badData)
        } catch let error as OutputError {
            throw report("\(error)", error.isCreation ? cannotCreate : disk)
        } catch let error as EngineError {
            throw report("\(error)", configuration)
        } catch let error as MeasuringError {
            throw report("\(error)", configuration)
        } catch let error as StreamingError {
            throw report("\(error)", error.kind == .invalidLayout ? badData : disk)
        } catch let error as ProfilingError {
            throw report("\(error)", badData)
        } catch let error as TraceError {
            throw report("\(error)", code(error.kind))
        } catch let error as BenchmarkingError {
            throw report("\(error)", unavailable)
        } catch let error as EvictionPolicyError {
            throw report("\(error)", usage)
        } catch let error as ServiceError {
            throw report("\(error)", configuration)
        } catch let error as ClientError {
            throw report("\(error)", unavailable)
        } catch let error as InputError {
            throw report(error.description, error.code)
        } catch {
            throw report("\(error)", software)
        }
    }

    private static func code(_ kind: TraceError.Kind) -> ExitCode {
        switch kind {
        case .unusableFile: noInput
        case .cannotCreate: Failure.cannotCreate
        case .malformed: badData
        case .disk: disk
        case .unsuitable: usage
        }
    }

    private static func report(_ message: String, _ code: ExitCode) -> ExitCode {
        Console.error("sluice: \(message)")
        return code
    }
}

/// Something wrong with what the user gave, other than the model.
struct InputError: Error, CustomStringConvertible {
    let description: String
    let code: ExitCode

    init(_ description: String, code: ExitCode = Failure.usage) {
        self.description = description
        self.code = code
    }
}
