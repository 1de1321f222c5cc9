package com.reflexio.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.reflexio.v1.ApiKey;
import com.reflexio.v1.AuthServiceGrpc;
import com.reflexio.v1.DeleteInteractionRequest;
import com.reflexio.v1.DeleteRequestGroupRequest;
import com.reflexio.v1.DeleteRequestRequest;
import com.reflexio.v1.DeleteUserRequest;
import com.reflexio.v1.GetImageRequest;
import com.reflexio.v1.GetInteractionsRequest;
import com.reflexio.v1.GetRequestsRequest;
import com.reflexio.v1.Image;
import com.reflexio.v1.ListApiKeysRequest;
import com.reflexio.v1.LoginRequest;
import com.reflexio.v1.PublishInteractionsRequest;
import com.reflexio.v1.RevokeApiKeyRequest;
import com.reflexio.v1.SearchInteractionsRequest;
import com.reflexio.v1.WhoAmIRequest;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;

/** The sections about what is refused. */
final class Errors {
  private final Client client;
  private final String email;
  private final String password;

  Errors(Client client, String email, String password) {
    this.client = client;
    this.email = email;
    this.password = password;
  }

  JsonObject rows(JsonArray rows) throws Exception {
    var reports = new JsonObject();
    for (var row : rows) {
      var one = row.getAsJsonObject();
      reports.add(one.get("name").getAsString(), Json.failure(() -> call(one)));
    }
    return reports;
  }

  /** Makes a call that must fail. */
  private Object call(JsonObject row) throws Exception {
    var caller = row.has("key") ? client.withKey(row.get("key").getAsString()) : client;
    var given = row.get("request");
    if (row.has("sent_as")) { // an Image has bytes where the RPC has text, to send what is not UTF-8
      var method = AuthServiceGrpc.getRevokeApiKeyMethod();
      var other =
          method.toBuilder(ProtoUtils.marshaller(Image.getDefaultInstance()), method.getResponseMarshaller()).build();
      Image image = Json.message(given, Image.newBuilder());
      return ClientCalls.blockingUnaryCall(caller.channel, other, Client.timeLimited(), image);
    }
    return switch (row.get("rpc").getAsString()) {
      case "Login" -> caller.auth.login(Json.message(given, LoginRequest.newBuilder()));
      case "WhoAmI" -> caller.auth.whoAmI(Json.message(given, WhoAmIRequest.newBuilder()));
      case "ListApiKeys" -> caller.auth.listApiKeys(Json.message(given, ListApiKeysRequest.newBuilder()));
      case "RevokeApiKey" -> caller.auth.revokeApiKey(Json.message(given, RevokeApiKeyRequest.newBuilder()));
      case "PublishInteractions" ->
          caller.interactions.publishInteractions(Json.message(given, PublishInteractionsRequest.newBuilder()));
      case "SearchInteractions" ->
          caller.interactions.searchInteractions(Json.message(given, SearchInteractionsRequest.newBuilder()));
      case "GetInteractions" ->
          caller.interactions.getInteractions(Json.message(given, GetInteractionsRequest.newBuilder()));
      case "GetRequests" -> caller.interactions.getRequests(Json.message(given, GetRequestsRequest.newBuilder()));
      case "DeleteInteraction" ->
          caller.interactions.deleteInteraction(Json.message(given, DeleteInteractionRequest.newBuilder()));
      case "DeleteRequest" -> caller.interactions.deleteRequest(Json.message(given, DeleteRequestRequest.newBuilder()));
      case "DeleteRequestGroup" ->
          caller.interactions.deleteRequestGroup(Json.message(given, DeleteRequestGroupRequest.newBuilder()));
      case "DeleteUser" -> caller.interactions.deleteUser(Json.message(given, DeleteUserRequest.newBuilder()));
      case "GetImage" -> caller.image(Json.message(given, GetImageRequest.newBuilder()));
      default -> throw new IllegalArgumentException("no RPC " + row.get("rpc"));
    };
  }

  JsonObject revokedKey() throws Exception {
    var other = client.withKey("");
    var keyId = other.logIn(email, password).getKeyId();
    var revoke = RevokeApiKeyRequest.newBuilder().setKeyId(keyId).build();
    var whoAmI = WhoAmIRequest.getDefaultInstance();
    var report = new JsonObject();
    report.addProperty("before", other.auth.whoAmI(whoAmI).getApiKey().getKeyId().equals(keyId));
    report.addProperty("revoked", client.auth.revokeApiKey(revoke).getApiKey().hasRevokedAt());
    report.add("after", Json.failure(() -> other.auth.whoAmI(whoAmI)));
    report.addProperty("revoked_again", client.auth.revokeApiKey(revoke).getApiKey().hasRevokedAt());
    var keys = client.auth.listApiKeys(ListApiKeysRequest.getDefaultInstance()).getApiKeysList();
    report.addProperty("listed_as_revoked", keys.stream().filter(ApiKey::hasRevokedAt).count());
    return report;
  }
}
