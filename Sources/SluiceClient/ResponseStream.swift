import JSONTree
import OpenAIAPI

/// An answer that comes in pieces: a sequence to be read by one task.
///
/// The request is sent when reading begins, and again each time it begins. The server computes only
/// as far ahead as its and the socket's buffers go: who reads slowly holds nothing in memory here.
/// Leaving the loop, dropping the iterator or cancelling the task closes the connection, and with it
/// ends the work in the server, within a token.
///
/// Reading throws `ClientError`, also when the connection ends before the server has said that the
/// answer is complete, and `CancellationError` in a cancelled task.
public struct ResponseStream<Element: Sendable>: AsyncSequence, Sendable {
    let open: @Sendable () async throws -> Exchange
    let address: SluiceClient.Address
    let limitBytes: Int
    let decode: @Sendable (JSON) throws(ResponseError) -> Element

    public func makeAsyncIterator() -> Iterator { Iterator(stream: self) }

    public struct Iterator: AsyncIteratorProtocol, Sendable {
        private let stream: ResponseStream
        private var exchange: Exchange?
        private var decoder: EventStreamDecoder
        /// The data of events that came and were not asked for yet, the first one last.
        private var waiting: [[UInt8]] = []
        private var hasEnded = false

        init(stream: ResponseStream) {
            self.stream = stream
            decoder = EventStreamDecoder(limitBytes: stream.limitBytes)
        }

        public mutating func next() async throws -> Element? {
            if hasEnded { return nil }
            do {
                if let element = try await element() { return element }
            } catch {
                close()
                throw error
            }
            close()
            return nil
        }

        private mutating func close() {
            hasEnded = true
            exchange = nil
            waiting = []
        }

        /// The next piece; nil when the server has said that there are no more.
        private mutating func element() async throws -> Element? {
            let exchange = if let exchange { exchange } else { try await stream.open() }
            while true {
                if let data = waiting.popLast() {
                    self.exchange = exchange
                    if data.elementsEqual("[DONE]".utf8) { return nil }
                    return try stream.element(data)
                }
                guard let bytes = try await exchange.next() else {
                    throw ClientError(
                        .connectionLost,
                        "\(stream.address): the answer ended before it was complete; look at the "
                            + "server's log (journalctl -u sluice)")
                }
                do {
                    waiting = try decoder.append(bytes).reversed()
                } catch {
                    throw ClientError(
                        .badResponse,
                        "\(stream.address): an event of the answer is longer than "
                            + "\(error.limitBytes >> 20) MiB")
                }
            }
        }
    }

    private func element(_ data: [UInt8]) throws(ClientError) -> Element {
        let json: JSON
        do {
            json = try JSON(parsing: data)
        } catch {
            throw ClientError(
                .badResponse, "\(address): an event of the answer is no JSON: \(error)")
        }
        // An answer that fails after it has begun says so in its place: the status is long sent.
        if let error = json["error"], !error.isNull {
            throw ClientError(APIError(json: json, status: 200), from: address)
        }
        do {
            return try decode(json)
        } catch {
            throw ClientError(.badResponse, "\(address): \(error)")
        }
    }
}
