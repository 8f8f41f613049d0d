import SluiceClient
import Testing

struct AddressTests {
    @Test(arguments: [
        ("localhost:8080", SluiceClient.Address.tcp(host: "localhost", port: 8080)),
        ("127.0.0.1:1", .tcp(host: "127.0.0.1", port: 1)),
        ("[::1]:65535", .tcp(host: "::1", port: 65535)),
    ])
    func `a host and port are read and written alike`(
        _ text: String, _ address: SluiceClient.Address
    ) {
        #expect(SluiceClient.Address(tcp: text) == address)
        #expect("\(address)" == text)
    }

    @Test(arguments: [
        "", "localhost", ":80", "localhost:", "localhost:0", "localhost:65536", "::1:80",
        "localhost:80x", "http://localhost:80", "[]:80",
    ])
    func `what is no host and port is refused`(_ text: String) {
        #expect(SluiceClient.Address(tcp: text) == nil)
    }
}
