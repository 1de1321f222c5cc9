package com.reflexio.conformance;

import com.google.gson.JsonObject;
import com.reflexio.v1.DeleteInteractionRequest;
import com.reflexio.v1.DeleteRequestGroupRequest;
import com.reflexio.v1.DeleteRequestRequest;
import com.reflexio.v1.DeleteUserRequest;
import com.reflexio.v1.GetInteractionsRequest;
import com.reflexio.v1.PublishInteractionsRequest;
import java.util.ArrayList;
import java.util.List;

/** The section about erasing. */
final class Erasing {
  private final Client client;

  Erasing(Client client) {
    this.client = client;
  }

  JsonObject run(JsonObject given) throws Exception {
    var requests = new ArrayList<PublishInteractionsRequest>();
    var ids = new ArrayList<List<String>>();
    for (var one : given.getAsJsonArray("requests")) {
      PublishInteractionsRequest request = Json.message(one, PublishInteractionsRequest.newBuilder());
      requests.add(request);
      ids.add(client.interactions.publishInteractions(request).getInteractionIdsList());
    }
    var partly = requests.get(0);
    var whole = requests.get(1);
    var userId = partly.getUserId();
    var interaction =
        DeleteInteractionRequest.newBuilder().setUserId(userId).setInteractionId(ids.get(0).get(0)).build();
    var request = DeleteRequestRequest.newBuilder().setRequestId(whole.getRequestId()).build();
    var group =
        DeleteRequestGroupRequest.newBuilder()
            .setUserId(userId)
            .setRequestGroup(requests.get(2).getRequestGroup())
            .build();
    var user = DeleteUserRequest.newBuilder().setUserId(userId).build();
    var report = new JsonObject();
    report.add("interaction", Json.of(client.interactions.deleteInteraction(interaction)));
    var again = client.interactions.publishInteractions(partly);
    report.addProperty("replayed", again.getReplayed());
    report.addProperty("same_ids", again.getInteractionIdsList().equals(ids.get(0)));
    report.add("request", Json.of(client.interactions.deleteRequest(request)));
    report.add("erased_request", Json.failure(() -> client.interactions.publishInteractions(whole)));
    report.add("in_stream", Json.of(client.stream(List.of(whole, partly).iterator())));
    report.add("request_group", Json.of(client.interactions.deleteRequestGroup(group)));
    var left = client.listed(GetInteractionsRequest.newBuilder().setUserId(userId));
    report.add("left", Json.array(Scenario.contents(left)));
    report.add("user", Json.of(client.interactions.deleteUser(user)));
    report.add("again", Json.failure(() -> client.interactions.deleteUser(user)));
    return report;
  }
}
