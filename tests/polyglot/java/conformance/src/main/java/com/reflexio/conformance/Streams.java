package com.reflexio.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import com.reflexio.v1.Image;
import com.reflexio.v1.InteractionData;
import com.reflexio.v1.InteractionServiceGrpc;
import com.reflexio.v1.PublishInteractionsRequest;
import com.reflexio.v1.UserAction;
import io.grpc.CallOptions;
import io.grpc.protobuf.ProtoUtils;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** The sections about publish streams. */
final class Streams {
  private final Client client;

  Streams(Client client) {
    this.client = client;
  }

  JsonObject stream(JsonObject given) throws Exception {
    var click = InteractionData.newBuilder().setUserAction(UserAction.USER_ACTION_CLICK).build();
    var requests =
        IntStream.range(0, given.get("count").getAsInt())
            .mapToObj(
                i ->
                    PublishInteractionsRequest.newBuilder()
                        .setUserId(given.get("user_id").getAsString())
                        .setRequestId("stream_" + i)
                        .addInteractions(click)
                        .build())
            .toArray(PublishInteractionsRequest[]::new);
    for (var pair : given.getAsJsonArray("duplicates")) {
      var indexes = pair.getAsJsonArray();
      requests[indexes.get(0).getAsInt()] = requests[indexes.get(1).getAsInt()];
    }
    for (var bad : given.getAsJsonArray("bad")) {
      var index = bad.getAsJsonObject().get("index").getAsInt();
      requests[index] = Json.message(bad.getAsJsonObject().get("request"), PublishInteractionsRequest.newBuilder());
    }
    var report = new JsonObject();
    report.add("first", Json.of(client.stream(List.of(requests).iterator())));
    report.add("again", Json.of(client.stream(List.of(requests).iterator())));
    return report;
  }

  JsonObject malformed(JsonObject given) throws Exception {
    PublishInteractionsRequest request =
        Json.message(given.get("request"), PublishInteractionsRequest.newBuilder());
    var broken = ByteString.copyFrom(Base64.getDecoder().decode(given.get("malformed").getAsString()));
    // An Image's first field is bytes where the RPC's message has the request.
    var method =
        InteractionServiceGrpc.getPublishInteractionStreamMethod()
            .toBuilder(
                ProtoUtils.marshaller(Image.getDefaultInstance()),
                InteractionServiceGrpc.getPublishInteractionStreamMethod().getResponseMarshaller())
            .build();
    var messages = Stream.of(broken, request.toByteString()).map(one -> Image.newBuilder().setSha256(one).build());
    return Json.of(client.stream(method, messages.iterator())).getAsJsonObject();
  }

  JsonObject deadline(JsonObject given) throws Exception {
    var userId = given.get("user_id").getAsString();
    var ids = texts(given.get("request_ids"));
    var milliseconds = (long) (given.get("seconds").getAsDouble() * 1000);
    var stream = client.open(CallOptions.DEFAULT.withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS), userId, ids);
    var report = new JsonObject();
    report.add("code", Json.failure(stream::get).get("code"));
    report.addProperty("stored", client.waitFor(userId, ids.size()));
    return report;
  }

  JsonObject cancellation(JsonObject given) throws Exception {
    var userId = given.get("user_id").getAsString();
    var ids = texts(given.get("request_ids"));
    var stream = client.open(Client.timeLimited(), userId, ids);
    client.waitFor(userId, ids.size());
    stream.cancel();
    var code = Json.failure(stream::get).get("code").getAsString();
    var all = Stream.concat(ids.stream(), texts(given.get("rest")).stream()).map(id -> Client.say(userId, id));
    var report = new JsonObject();
    report.addProperty("cancelled", code.equals("CANCELLED"));
    report.add("again", Json.of(client.stream(all.iterator())));
    return report;
  }

  private static List<String> texts(JsonElement array) {
    return StreamSupport.stream(array.getAsJsonArray().spliterator(), false).map(JsonElement::getAsString).toList();
  }
}
