package com.reflexio.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import com.reflexio.v1.GetImageRequest;
import com.reflexio.v1.GetInteractionsRequest;
import com.reflexio.v1.GetRequestsRequest;
import com.reflexio.v1.Interaction;
import com.reflexio.v1.InteractionData;
import com.reflexio.v1.Order;
import com.reflexio.v1.PublishInteractionsRequest;
import com.reflexio.v1.PublishInteractionsResponse;
import com.reflexio.v1.SearchHit;
import com.reflexio.v1.SearchInteractionsRequest;
import com.reflexio.v1.WhoAmIRequest;
import java.security.MessageDigest;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/** The sections in their order; what they are given and must report is in scenario.json. */
final class Scenario {
  /** A section: what it is given, and what it reports. */
  interface Section {
    JsonObject run(JsonElement given) throws Exception;
  }

  private final Client client;
  private final String email = System.getenv("REFLEXIO_EMAIL");
  private final String password = System.getenv("REFLEXIO_PASSWORD");
  private final Map<String, Section> sections = new LinkedHashMap<>();
  private String keyId = "";

  Scenario(String address, String troubledAddress) {
    client = new Client(address);
    var streams = new Streams(client);
    var errors = new Errors(client, email, password);
    sections.put("login", given -> login());
    sections.put("who_am_i", given -> whoAmI());
    sections.put("images", given -> images(given.getAsJsonObject()));
    sections.put("unicode", given -> unicode(given.getAsJsonObject()));
    sections.put("replay", given -> replay(given.getAsJsonObject()));
    sections.put("stream", given -> streams.stream(given.getAsJsonObject()));
    sections.put("malformed_in_stream", given -> streams.malformed(given.getAsJsonObject()));
    sections.put("search", given -> search(given.getAsJsonObject()));
    sections.put("paging", given -> paging(given.getAsJsonObject()));
    sections.put("threads", given -> threads(given.getAsJsonObject()));
    sections.put("errors", given -> errors.rows(given.getAsJsonArray()));
    sections.put("erasing", given -> new Erasing(client).run(given.getAsJsonObject()));
    sections.put("deadline", given -> streams.deadline(given.getAsJsonObject()));
    sections.put("cancellation", given -> streams.cancellation(given.getAsJsonObject()));
    sections.put("revoked_key", given -> errors.revokedKey());
    sections.put("trouble", given -> new Trouble(troubledAddress, email, password).run(given.getAsJsonObject()));
  }

  JsonObject run(JsonObject scenario) throws Exception {
    var report = new JsonObject();
    for (var section : sections.entrySet()) {
      var given = scenario.getAsJsonObject(section.getKey()).get("given");
      report.add(section.getKey(), section.getValue().run(given));
    }
    return report;
  }

  private JsonObject login() {
    var login = client.logIn(email, password);
    keyId = login.getKeyId();
    var report = new JsonObject();
    report.addProperty("key_prefix", login.getApiKey().substring(0, 5));
    report.addProperty("key_length", login.getApiKey().length());
    return report;
  }

  private JsonObject whoAmI() {
    var me = client.auth.whoAmI(WhoAmIRequest.getDefaultInstance());
    var report = new JsonObject();
    report.addProperty("same_email", me.getAccount().getEmail().equals(email));
    report.addProperty("same_key", me.getApiKey().getKeyId().equals(keyId));
    report.addProperty("revoked", me.getApiKey().hasRevokedAt());
    return report;
  }

  private JsonObject images(JsonObject given) throws Exception {
    PublishInteractionsRequest request =
        Json.message(given.get("request"), PublishInteractionsRequest.newBuilder());
    var answer = client.interactions.publishInteractions(request);
    var wanted = GetInteractionsRequest.newBuilder().setUserId(request.getUserId()).setIncludeImages(true);
    var images = new JsonArray();
    var sent = request.getInteractionsList().iterator();
    for (var found : client.listed(wanted)) {
      images.add(image(sent.next().getImage(), found));
    }
    var report = new JsonObject();
    report.addProperty("published", answer.getInteractionIdsCount());
    report.addProperty("replayed", answer.getReplayed());
    report.addProperty("searchable", answer.getSearchable());
    report.add("images", images);
    return report;
  }

  private JsonObject image(ByteString sent, Interaction found) throws Exception {
    var chunks = client.image(GetImageRequest.newBuilder().setInteractionId(found.getInteractionId()).build());
    var image = found.getImage();
    var sha256 = ByteString.copyFrom(MessageDigest.getInstance("SHA-256").digest(sent.toByteArray()));
    var report = new JsonObject();
    report.addProperty("content", found.getContent());
    report.addProperty("media_type", image.getMediaType());
    report.addProperty("width", image.getWidth());
    report.addProperty("height", image.getHeight());
    report.addProperty("size_bytes", image.getSizeBytes());
    report.addProperty("data_omitted", image.getDataOmitted());
    report.addProperty("bytes_in_page", image.getData().size());
    report.addProperty("same_sha256", image.getSha256().equals(sha256));
    report.add("chunks", Json.array(chunks.stream().map(ByteString::size).toList()));
    report.addProperty(
        "same_bytes",
        ByteString.copyFrom(chunks).equals(sent) && (image.getData().isEmpty() || image.getData().equals(sent)));
    return report;
  }

  private JsonObject unicode(JsonObject given) {
    var request =
        PublishInteractionsRequest.newBuilder()
            .setUserId(given.get("user_id").getAsString())
            .setRequestId(given.get("request_id").getAsString());
    for (var text : given.getAsJsonArray("texts")) {
      request.addInteractions(InteractionData.newBuilder().setContent(text.getAsString()));
    }
    client.interactions.publishInteractions(request.build());
    var stored = client.listed(GetInteractionsRequest.newBuilder().setUserId(request.getUserId()));
    var report = new JsonObject();
    report.addProperty("user_id", stored.get(0).getUserId());
    report.addProperty("request_id", stored.get(0).getRequestId());
    report.add("contents", Json.array(contents(stored)));
    return report;
  }

  private JsonObject replay(JsonObject given) throws Exception {
    var first = publish(given.get("request"));
    var again = publish(given.get("request"));
    var before = publish(given.get("published_before"));
    var report = new JsonObject();
    report.addProperty("first_replayed", first.getReplayed());
    report.addProperty("again_replayed", again.getReplayed());
    report.addProperty("same_ids", first.getInteractionIdsList().equals(again.getInteractionIdsList()));
    report.addProperty("published_before_replayed", before.getReplayed());
    return report;
  }

  private PublishInteractionsResponse publish(JsonElement request) throws Exception {
    return client.interactions.publishInteractions(
        Json.message(request, PublishInteractionsRequest.newBuilder()));
  }

  private JsonObject search(JsonObject given) throws Exception {
    for (var request : given.getAsJsonArray("requests")) {
      publish(request);
    }
    var reports = new JsonObject();
    for (var search : given.getAsJsonArray("searches")) {
      var one = search.getAsJsonObject();
      SearchInteractionsRequest request =
          Json.message(one.get("request"), SearchInteractionsRequest.newBuilder());
      var found = client.interactions.searchInteractions(request);
      var scores = found.getHitsList().stream().map(SearchHit::getScore).toList();
      var fall = IntStream.range(1, scores.size()).allMatch(i -> scores.get(i - 1) >= scores.get(i));
      var report = new JsonObject();
      report.add("contents", Json.array(found.getHitsList().stream().map(hit -> hit.getInteraction().getContent()).toList()));
      report.addProperty("unindexed_count", found.getUnindexedCount());
      report.addProperty("scores_fall", fall);
      reports.add(one.get("name").getAsString(), report);
    }
    return reports;
  }

  private JsonObject paging(JsonObject given) {
    var userId = given.get("user_id").getAsString();
    var size = given.get("interactions").getAsInt();
    for (var i = 0; i < given.get("requests").getAsInt(); i++) {
      var request = PublishInteractionsRequest.newBuilder().setUserId(userId);
      for (var j = 0; j < size; j++) {
        request.addInteractions(InteractionData.newBuilder().setContent("line " + (i * size + j)));
      }
      client.interactions.publishInteractions(request.build());
    }
    var late = "after the first page";
    var wanted = GetInteractionsRequest.newBuilder().setUserId(userId).setPageSize(given.get("page_size").getAsInt());
    var newestFirst = client.pages(wanted.build(), () -> {});
    var oldestFirst =
        client.pages(
            wanted.setOrder(Order.ORDER_OLDEST_FIRST).build(),
            () -> client.interactions.publishInteractions(Client.say(userId, late)));
    var lines = oldestFirst.stream().flatMap(page -> contents(page).stream()).toList();
    var everything = client.listed(GetInteractionsRequest.newBuilder().setPageSize(1000));
    var report = new JsonObject();
    report.add("page_sizes", Json.array(oldestFirst.stream().map(List::size).toList()));
    report.add("contents", Json.array(lines));
    report.add("newest_first", Json.array(newestFirst.stream().flatMap(page -> contents(page).stream()).toList()));
    report.addProperty("late_in_pages", lines.contains(late));
    report.addProperty("everything", everything.size());
    report.addProperty("distinct", everything.stream().map(Interaction::getInteractionId).distinct().count());
    return report;
  }

  private JsonObject threads(JsonObject given) throws Exception {
    for (var request : given.getAsJsonArray("requests")) {
      publish(request);
    }
    var reports = new JsonObject();
    for (var read : given.getAsJsonArray("reads")) {
      var one = read.getAsJsonObject();
      GetRequestsRequest request = Json.message(one.get("request"), GetRequestsRequest.newBuilder());
      reports.add(one.get("name").getAsString(), threads(request));
    }
    return reports;
  }

  /** The threads of each page, with what was said in each request. */
  private JsonArray threads(GetRequestsRequest request) {
    var pages = new JsonArray();
    for (var token = ""; ; ) {
      var page = client.interactions.getRequests(request.toBuilder().setPageToken(token).build());
      var threads = new JsonArray();
      for (var group : page.getRequestGroupsList()) {
        var requests = new JsonArray();
        group.getRequestsList().forEach(one -> requests.add(Json.array(contents(one.getInteractionsList()))));
        var thread = new JsonObject();
        thread.addProperty("request_group", group.getRequestGroup());
        thread.add("requests", requests);
        threads.add(thread);
      }
      pages.add(threads);
      token = page.getNextPageToken();
      if (token.isEmpty()) {
        return pages;
      }
    }
  }

  static List<String> contents(List<Interaction> items) {
    return items.stream().map(Interaction::getContent).toList();
  }
}
