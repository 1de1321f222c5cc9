package com.reflexio.examples;

import com.google.protobuf.Timestamp;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.reflexio.v1.AuthServiceGrpc;
import com.reflexio.v1.DeleteUserRequest;
import com.reflexio.v1.InteractionData;
import com.reflexio.v1.InteractionFilter;
import com.reflexio.v1.InteractionServiceGrpc;
import com.reflexio.v1.LoginRequest;
import com.reflexio.v1.PublishInteractionStreamRequest;
import com.reflexio.v1.PublishInteractionStreamResponse;
import com.reflexio.v1.PublishInteractionsRequest;
import com.reflexio.v1.SearchInteractionsRequest;
import com.reflexio.v1.UserAction;
import com.reflexio.v1.WaitUntil;
import com.reflexio.v1.WhoAmIRequest;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;

/** What README.md shows, in one program. */
public final class Quickstart {
  private Quickstart() {}

  public static void main(String[] arguments) throws Exception {
    var email = System.getenv("REFLEXIO_EMAIL");
    var password = System.getenv("REFLEXIO_PASSWORD");
    var address = System.getenv("REFLEXIO_ADDRESS");

    var plain = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
    var login =
        AuthServiceGrpc.newBlockingStub(plain)
            .login(LoginRequest.newBuilder().setEmail(email).setPassword(password).build());
    var headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + login.getApiKey());
    Channel channel = ClientInterceptors.intercept(plain, MetadataUtils.newAttachHeadersInterceptor(headers));
    var me = AuthServiceGrpc.newBlockingStub(channel).whoAmI(WhoAmIRequest.getDefaultInstance());
    System.out.println("logged in as " + me.getAccount().getEmail());

    var client = InteractionServiceGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
    var now = Timestamp.newBuilder().setSeconds(Instant.now().getEpochSecond()).build();
    var run = Long.toHexString(System.currentTimeMillis()); // ids are yours to make, and are never used for something else
    var request =
        PublishInteractionsRequest.newBuilder()
            .setUserId("ada")
            .setRequestId("parcel-4711_" + run)
            .setRequestGroup("parcel-4711")
            .setSource("support_chat")
            .setWaitUntil(WaitUntil.WAIT_UNTIL_SEARCHABLE)
            .addInteractions(
                InteractionData.newBuilder()
                    .setRole("User")
                    .setContent("My parcel never arrived.")
                    .setCreatedAt(now))
            .addInteractions(
                InteractionData.newBuilder().setRole("Agent").setContent("I am sorry!").setCreatedAt(now))
            .build();
    var published = client.publishInteractions(request);
    System.out.println("published " + published.getInteractionIdsCount() + " interactions");
    var again = client.publishInteractions(request); // as after a lost answer: the very same message
    System.out.println("sent again, and stored before: " + again.getReplayed());

    var verdict = new CompletableFuture<PublishInteractionStreamResponse>();
    var stream =
        InteractionServiceGrpc.newStub(channel)
            .publishInteractionStream(
                new StreamObserver<>() {
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
    for (var i = 0; i < 3; i++) { // for many, wait for isReady() as Bulk.java does
      var click =
          PublishInteractionsRequest.newBuilder()
              .setUserId("ada")
              .setRequestId("clicks-" + run + "_" + i)
              .addInteractions(InteractionData.newBuilder().setUserAction(UserAction.USER_ACTION_CLICK));
      stream.onNext(PublishInteractionStreamRequest.newBuilder().setRequest(click).build());
    }
    stream.onCompleted();
    var counts = verdict.get(30, TimeUnit.SECONDS).getRequests();
    System.out.printf(
        "streamed: %d stored, %d duplicate, %d rejected%n",
        counts.getStored(), counts.getDuplicate(), counts.getRejected());

    var found =
        client.searchInteractions(
            SearchInteractionsRequest.newBuilder()
                .setUserId("ada") // left out: the whole account
                .setQuery("lost delivery")
                .setTopK(1)
                .setFilter(InteractionFilter.newBuilder().addRoles("User"))
                .build());
    for (var hit : found.getHitsList()) {
      var interaction = hit.getInteraction();
      System.out.printf("%.2f %s: %s%n", hit.getScore(), interaction.getRole(), interaction.getContent());
    }

    var erased = client.deleteUser(DeleteUserRequest.newBuilder().setUserId("ada").build()).getErased();
    System.out.printf("erased: %d requests, %d interactions%n", erased.getRequests(), erased.getInteractions());

    try {
      client.publishInteractions(PublishInteractionsRequest.getDefaultInstance());
    } catch (StatusRuntimeException error) {
      System.out.println("refused: " + error.getStatus().getCode() + " " + error.getStatus().getDescription());
      for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          System.out.println("reason: " + detail.unpack(ErrorInfo.class).getReason());
        } else if (detail.is(BadRequest.class)) {
          for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
            System.out.printf("field: %s: %s%n", violation.getField(), violation.getDescription());
          }
        } else if (detail.is(RetryInfo.class)) {
          System.out.println("try again after " + detail.unpack(RetryInfo.class).getRetryDelay().getSeconds() + " s");
        }
      }
    }

    var several =
        Grpc.newChannelBuilder("dns:///" + address, InsecureChannelCredentials.create())
            .defaultServiceConfig(
                Map.of(
                    "loadBalancingConfig", List.of(Map.of("round_robin", Map.of())),
                    "healthCheckConfig", Map.of("serviceName", "")))
            .build();
    Channel inTurn = ClientInterceptors.intercept(several, MetadataUtils.newAttachHeadersInterceptor(headers));
    var known = AuthServiceGrpc.newBlockingStub(inTurn).whoAmI(WhoAmIRequest.getDefaultInstance()).getAccount();
    System.out.println("one that serves knows " + known.getEmail());
    several.shutdownNow();
    plain.shutdownNow();
  }
}
