package com.reflexio.examples;

import static java.util.regex.Pattern.CASE_INSENSITIVE;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.ErrorInfo;
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
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import java.util.regex.Pattern;
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
  private static final int PACKED_BYTES = 64 << 10; // of a message with several requests; beyond, it saves little
  private static final Duration PATIENCE = Duration.ofMinutes(2); // without any progress
  private static final Set<Status.Code> HOPELESS =
      Set.of(Status.Code.UNAUTHENTICATED, Status.Code.PERMISSION_DENIED, Status.Code.UNIMPLEMENTED);
  // Less at a time does not help: nobody answers, or there were too many streams.
  private static final Set<Status.Code> LATER =
      Set.of(Status.Code.UNAVAILABLE, Status.Code.ABORTED, Status.Code.CANCELLED, Status.Code.RESOURCE_EXHAUSTED);
  // The reasons that stay the same however often the same is sent. All else may pass.
  private static final Set<String> REFUSALS =
      Set.of(
          "INVALID_FIELD", "LIMIT_EXCEEDED", "MALFORMED_MESSAGE", "NOT_FOUND", "REQUEST_ID_REUSED", "REQUEST_ERASED");
  // How gRPC's implementations say that a message is.
  private static final Pattern TOO_LARGE =
      Pattern.compile("larger than (max|configured)|message exceeds|message (length )?too large", CASE_INSENSITIVE);

  private final InteractionServiceStub client;
  private List<PublishInteractionsRequest> segment = new ArrayList<>(); // what is not settled of it
  // How many requests a message may carry. Until a verdict has said more, one: a server of before takes a message with
  // several for an empty one.
  private int perMessage = 1;
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
    var limit = SEGMENT;
    var wait = 100L;
    var progress = Instant.now();
    while (!segment.isEmpty()) {
      var left = PATIENCE.minus(Duration.between(progress, Instant.now())).toMillis();
      var batch = List.copyOf(segment.subList(0, Math.min(limit, segment.size())));
      try {
        read(send(batch, left / 2), batch); // half of what is left: a stream that hangs must leave time for another
      } catch (StatusRuntimeException error) {
        var code = error.getStatus().getCode();
        var refused = isRefused(error);
        if (HOPELESS.contains(code)) {
          throw error;
        }
        if (refused && batch.size() == 1) {
          reject(segment.remove(0), code.name(), error.getStatus().getDescription());
        } else {
          if (refused || !LATER.contains(code)) {
            limit = Math.max(1, batch.size() / 2);
          }
          if (!refused) {
            // Full jitter, so that clients do not come back all at once.
            var pause = retryAfter(error).orElse(0) + ThreadLocalRandom.current().nextLong(wait);
            if (pause > left) {
              throw error;
            }
            Thread.sleep(pause);
            wait = Math.min(5000, wait * 2);
          }
          continue;
        }
      }
      limit = Math.min(SEGMENT, limit * 2);
      wait = 100;
      progress = Instant.now();
      System.out.println("settled " + (stored + duplicate + rejected));
    }
  }

  /** Sends a batch no faster than the connection takes it, and waits for the verdict. */
  private PublishInteractionStreamResponse send(List<PublishInteractionsRequest> batch, long milliseconds)
      throws InterruptedException {
    var verdict = new CompletableFuture<PublishInteractionStreamResponse>();
    var most = perMessage;
    var rest = pack(batch, most).iterator();
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
                          sender.onNext(rest.next());
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
      perMessage = Math.max(1, verdict.get().getRequestsPerMessage());
      if (perMessage < most) { // and so its verdict is on others than were sent
        throw Status.UNAVAILABLE
            .withDescription("another server answers now, which takes fewer requests in a message")
            .asRuntimeException();
      }
      return verdict.get();
    } catch (ExecutionException error) {
      throw Status.fromThrowable(error.getCause()).asRuntimeException(Status.trailersFromThrowable(error.getCause()));
    }
  }

  /** Puts requests into messages of at most so many, in their order. */
  private static List<PublishInteractionStreamRequest> pack(List<PublishInteractionsRequest> requests, int most) {
    var messages = new ArrayList<PublishInteractionStreamRequest>();
    var message = PublishInteractionStreamRequest.newBuilder();
    var bytes = 0;
    for (var request : requests) {
      if (most == 1) {
        messages.add(PublishInteractionStreamRequest.newBuilder().setRequest(request).build());
        continue;
      }
      var count = message.getRequestsCount();
      if (count == most || (count > 0 && bytes + request.getSerializedSize() > PACKED_BYTES)) {
        messages.add(message.build());
        message.clear();
        bytes = 0;
      }
      message.addRequests(request);
      bytes += request.getSerializedSize();
    }
    if (message.getRequestsCount() > 0) {
      messages.add(message.build());
    }
    return messages;
  }

  /** Takes a verdict; only what it leaves no doubt of is settled. */
  private void read(PublishInteractionStreamResponse verdict, List<PublishInteractionsRequest> batch) {
    var counts = verdict.getRequests();
    var handled = counts.getStored() + counts.getDuplicate() + counts.getRejected();
    var listed =
        verdict.getRejectionsList().stream().collect(Collectors.toMap(PublishRejection::getIndex, Function.identity()));
    if (listed.size() != counts.getRejected() || handled > batch.size()) {
      throw Status.INTERNAL.withDescription("the server's verdict contradicts itself").asRuntimeException();
    }
    stored += counts.getStored();
    duplicate += counts.getDuplicate();
    var rest = new ArrayList<PublishInteractionsRequest>();
    for (var i = 0; i < batch.size(); i++) {
      var rejection = listed.get(i);
      if (rejection == null ? i >= handled : !REFUSALS.contains(rejection.getReason())) {
        rest.add(batch.get(i));
      } else if (rejection != null) {
        reject(batch.get(i), rejection.getReason(), rejection.getMessage());
      }
    }
    var settled = rest.size() < batch.size();
    rest.addAll(segment.subList(batch.size(), segment.size()));
    segment = rest;
    if (!settled) {
      throw Status.UNAVAILABLE.withDescription("the stream ended before anything was settled").asRuntimeException();
    }
  }

  private void reject(PublishInteractionsRequest request, String reason, String message) {
    rejected++;
    System.out.printf("rejected %s: %s: %s%n", request.getRequestId(), reason, message);
  }

  /** Whether Reflexio or gRPC itself will say the same each time, and not that there was too much at once. */
  private static boolean isRefused(StatusRuntimeException error) throws InvalidProtocolBufferException {
    var reason =
        detail(error, ErrorInfo.class).filter(info -> info.getDomain().equals("reflexio")).map(ErrorInfo::getReason);
    var status = error.getStatus();
    var tooLarge =
        status.getCode() == Status.Code.RESOURCE_EXHAUSTED
            && TOO_LARGE.matcher(String.valueOf(status.getDescription())).find();
    return retryAfter(error).isEmpty() && reason.map(REFUSALS::contains).orElse(tooLarge);
  }

  /** For how many milliseconds the server asks to wait. */
  private static OptionalLong retryAfter(StatusRuntimeException error) throws InvalidProtocolBufferException {
    return detail(error, RetryInfo.class)
        .map(RetryInfo::getRetryDelay)
        .stream()
        .mapToLong(delay -> delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000)
        .findFirst();
  }

  private static <T extends Message> Optional<T> detail(StatusRuntimeException error, Class<T> kind)
      throws InvalidProtocolBufferException {
    for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(kind)) {
        return Optional.of(detail.unpack(kind));
      }
    }
    return Optional.empty();
  }
}
