package com.reflexio.conformance;

import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import com.reflexio.v1.InteractionData;
import com.reflexio.v1.InteractionServiceGrpc;
import com.reflexio.v1.PublishInteractionsRequest;
import com.reflexio.v1.SearchInteractionsRequest;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.stream.IntStream;

/** The section about a server in trouble. */
final class Trouble {
  private static final BufferedReader REPLIES = new BufferedReader(new InputStreamReader(System.in));

  private final Client client;

  Trouble(String address, String email, String password) {
    client = new Client(address);
    client.logIn(email, password);
  }

  JsonObject run(JsonObject given) throws Exception {
    var held = client.open(Client.timeLimited(), "holder", List.of("held"));
    client.waitFor("holder", 1);
    var report = new JsonObject();
    report.add("no_free_stream", Json.failure(() -> client.stream(Collections.emptyIterator())));

    cause("block_writes");
    var count = given.get("publishes").getAsInt();
    var refused = publishAtOnce(count);
    report.add("queue_full", Json.failureOf(refused.get(0)));
    var expected = count - refused.size();
    report.addProperty("all_answered", client.waitFor("busy", expected) == expected);

    cause("fill_disk");
    var image = ByteString.copyFrom(Base64.getDecoder().decode(given.get("image").getAsString()));
    var large =
        PublishInteractionsRequest.newBuilder()
            .setUserId("u")
            .addInteractions(InteractionData.newBuilder().setImage(image))
            .build();
    report.add("disk_full", Json.failure(() -> client.interactions.publishInteractions(large)));
    cause("free_disk");
    var query = SearchInteractionsRequest.newBuilder().setQuery("x").build();
    report.add("unforeseen", Json.failure(() -> client.interactions.searchInteractions(query)));
    cause("close_writer");
    report.add("draining", Json.failure(() -> client.interactions.publishInteractions(Client.say("late", "late"))));
    cause("stop");
    report.add("verdict", Json.of(held.get()));
    var stopped = Json.failure(() -> client.interactions.publishInteractions(Client.say("late", "late")));
    report.add("stopped", stopped.get("code"));
    return report;
  }

  /** Publishes so many requests concurrently and returns the errors. */
  private List<Throwable> publishAtOnce(int count) throws InterruptedException {
    var stub = InteractionServiceGrpc.newFutureStub(client.channel);
    var calls =
        IntStream.range(0, count).mapToObj(i -> stub.publishInteractions(Client.say("busy", "busy_" + i))).toList();
    var refused = new ArrayList<Throwable>();
    for (var call : calls) {
      try {
        call.get();
      } catch (ExecutionException error) {
        refused.add(error.getCause());
      }
    }
    return refused;
  }

  /** Asks the test for some trouble, and waits until it is there. */
  private static void cause(String trouble) throws IOException {
    System.out.println(trouble);
    REPLIES.readLine();
  }
}
