public import JSONTree

/// A model that a server has.
public struct ModelCard: Sendable, Equatable {
    public var id: String
    /// Seconds since 1970.
    public var created: Int
    public var ownedBy: String
    /// What else the server tells of it: context, parameters, bytes.
    public var meta: JSONObject

    public init(id: String, created: Int, ownedBy: String = "sluice", meta: JSONObject = .init()) {
        self.id = id
        self.created = created
        self.ownedBy = ownedBy
        self.meta = meta
    }

    public var json: JSON {
        var object = JSONObject()
        object["id"] = .string(id)
        object["object"] = "model"
        object["created"] = .integer(created)
        object["owned_by"] = .string(ownedBy)
        if !meta.isEmpty { object["meta"] = .object(meta) }
        return .object(object)
    }

    public init(json: JSON) throws(ResponseError) {
        id = try json.required("id", \.string)
        created = json["created"]?.integer ?? 0
        ownedBy = json["owned_by"]?.string ?? ""
        meta = json["meta"]?.object ?? JSONObject()
    }
}

/// The answer of `GET /v1/models`.
public struct ModelList: Sendable, Equatable {
    public var models: [ModelCard]

    public init(models: [ModelCard]) { self.models = models }

    public var json: JSON { ["object": "list", "data": .array(models.map(\.json))] }

    public init(json: JSON) throws(ResponseError) {
        models = []
        for model in try json.required("data", \.array) {
            models.append(try ModelCard(json: model))
        }
    }
}
