package com.reflexio.examples;

import com.google.rpc.RetryInfo;
import com.reflexio.v1.InteractionData;
import com.reflexio.v1.InteractionServiceGrpc;
import com.reflexio.v1.InteractionServiceGrpc.InteractionServiceStub;
import com.reflexio.v1.PublishInteractionStreamRequest;
import com.reflexio.v1.PublishInteractionStreamResponse;
import com.reflexio.v1.PublishInteractionsRequest;
import com.reflexio.v1.PublishRejection;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.MetadataUtils;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * Imports a chat log from standard input, a line for each turn: user, role and text, with tabs between them.
 *
 * <p>It goes out in segments of up to 1,000 requests, a stream for each. A segment whose stream breaks is sent again:
 * each turn has a request_id, so what was stored counts as duplicate.
 */
public final class Bulk {
  private static final int SEGMENT = 1000; // as many as a verdict lists, so that no rejection goes unlisted
  private static final int SEGMENT_BYTES = 8 << 20;
  private static final Duration PATIENCE = Duration.ofMinutes(2); // without any progress
  private static final Set<Status.Code> PASSING =
      Set.of(
          Status.Code.UNAVAILABLE,
          Status.Code.ABORTED,
          Status.Code.CANCELLED,
          Status.Code.DEADLINE_EXCEEDED,
          Status.Code.UNKNOWN,
          Status.Code.INTERNAL);
  private static final Set<String> PASSING_REASONS = Set.of("TOO_BUSY", "DRAINING", "DISK_FULL", "INTERNAL");

  private final InteractionServiceStub client;
  private List<PublishInteractionsRequest> segment = new ArrayList<>(); // what is not settled of it
  private int stored;
  private int duplicate;
  private int rejected;

  private Bulk(InteractionServiceStub client) {
    this.client = client;
  }

  public static void main(String[] arguments) throws Exception {
    var channel = Grpc.newChannelBuilder(System.getenv("REFLEXIO_ADDRESS"), InsecureChannelCredentials.create()).build();
    var headers = new Metadata();
    headers.put(
        Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER),
        "Bearer " + System.getenv("REFLEXIO_API_KEY"));
    var withKey = MetadataUtils.newAttachHeadersInterceptor(headers);
    var bulk = new Bulk(InteractionServiceGrpc.newStub(channel).withInterceptors(withKey));
    try (var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
      bulk.run(lines);
    }
    System.out.printf("%d stored, %d duplicate, %d rejected%n", bulk.stored, bulk.duplicate, bulk.rejected);
    channel.shutdownNow();
  }

  private void run(BufferedReader lines) throws Exception {
    var bytes = 0;
    var number = 0;
    for (String line; (line = lines.readLine()) != null; ) {
      var request = turn(++number, line);
      segment.add(request);
      bytes += request.getSerializedSize();
      if (segment.size() == SEGMENT || bytes >= SEGMENT_BYTES) {
        settle();
        bytes = 0;
      }
    }
    settle();
  }

  /** The number of its line names a turn, so that the import can be started again. */
  private static PublishInteractionsRequest turn(int number, String line) {
    var parts = line.split("\t", 3);
    return PublishInteractionsRequest.newBuilder()
        .setUserId(parts[0])
        .setRequestId("chat-log_" + number)
        .setSource("chat_log")
        .addInteractions(
            InteractionData.newBuilder()
                .setRole(parts.length > 1 ? parts[1] : "")
                .setContent(parts.length > 2 ? parts[2] : ""))
        .build();
  }

  /** Sends the segment until nothing of it is left. */
  private void settle() throws Exception {
    var wait = 100L;
    var progress = Instant.now();
    while (!segment.isEmpty()) {
      var left = PATIENCE.minus(Duration.between(progress, Instant.now())).toMillis();
      try {
        read(send(left / 2)); // half of what is left: a stream that hangs must leave time for another
        wait = 100;
        progress = Instant.now();
        System.out.println("settled " + (stored + duplicate + rejected));
      } catch (StatusRuntimeException error) {
        var retryAfter = retryAfter(error);
        // Full jitter, so that clients do not come back all at once.
        var pause = Math.max(0, retryAfter) + ThreadLocalRandom.current().nextLong(wait);
        if ((!PASSING.contains(error.getStatus().getCode()) && retryAfter < 0) || pause > left) {
          throw error;
        }
        Thread.sleep(pause);
        wait = Math.min(5000, wait * 2);
      }
    }
  }

  /** Sends the segment no faster than the connection takes it, and waits for the verdict. */
  private PublishInteractionStreamResponse send(long milliseconds) throws InterruptedException {
    var verdict = new CompletableFuture<PublishInteractionStreamResponse>();
    var rest = segment.iterator();
    client
        .withDeadlineAfter(milliseconds, TimeUnit.MILLISECONDS)
        .publishInteractionStream(
            new ClientResponseObserver<PublishInteractionStreamRequest, PublishInteractionStreamResponse>() {
              private boolean completed;

              @Override
              public void beforeStart(ClientCallStreamObserver<PublishInteractionStreamRequest> sender) {
                sender.setOnReadyHandler(
                    () -> {
                      while (sender.isReady() && !completed) {
                        if (rest.hasNext()) {
                          sender.onNext(PublishInteractionStreamRequest.newBuilder().setRequest(rest.next()).build());
                        } else {
                          completed = true;
                          sender.onCompleted();
                        }
                      }
                    });
              }

              @Override
              public void onNext(PublishInteractionStreamResponse answer) {
                verdict.complete(answer);
              }

              @Override
              public void onError(Throwable error) {
                verdict.completeExceptionally(error);
              }

              @Override
              public void onCompleted() {}
            });
    try {
      return verdict.get();
    } catch (ExecutionException error) {
      throw Status.fromThrowable(error.getCause()).asRuntimeException(Status.trailersFromThrowable(error.getCause()));
    }
  }

  /** Takes a verdict; only what it leaves no doubt of is settled. */
  private void read(PublishInteractionStreamResponse verdict) {
    var counts = verdict.getRequests();
    var handled = counts.getStored() + counts.getDuplicate() + counts.getRejected();
    var listed =
        verdict.getRejectionsList().stream().collect(Collectors.toMap(PublishRejection::getIndex, Function.identity()));
    if (listed.size() != counts.getRejected() || handled > segment.size()) {
      throw Status.INTERNAL.withDescription("the server's verdict contradicts itself").asRuntimeException();
    }
    stored += counts.getStored();
    duplicate += counts.getDuplicate();
    var rest = new ArrayList<PublishInteractionsRequest>();
    for (var i = 0; i < segment.size(); i++) {
      var rejection = listed.get(i);
      if (rejection == null ? i >= handled : PASSING_REASONS.contains(rejection.getReason())) {
        rest.add(segment.get(i));
      } else if (rejection != null) {
        rejected++;
        System.out.printf(
            "rejected %s: %s: %s%n", segment.get(i).getRequestId(), rejection.getReason(), rejection.getMessage());
      }
    }
    if (rest.size() == segment.size()) {
      throw Status.UNAVAILABLE.withDescription("the stream ended before anything was settled").asRuntimeException();
    }
    segment = rest;
  }

  /** For how many milliseconds the server asks to wait; -1 when it does not. */
  private static long retryAfter(StatusRuntimeException error) {
    for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(RetryInfo.class)) {
        try {
          var delay = detail.unpack(RetryInfo.class).getRetryDelay();
          return delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000;
        } catch (com.google.protobuf.InvalidProtocolBufferException broken) {
          return -1;
        }
      }
    }
    return -1;
  }
}
