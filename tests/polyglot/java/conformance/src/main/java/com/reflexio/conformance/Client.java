package com.reflexio.conformance;

import com.google.protobuf.ByteString;
import com.reflexio.v1.AuthServiceGrpc;
import com.reflexio.v1.GetImageRequest;
import com.reflexio.v1.GetInteractionsRequest;
import com.reflexio.v1.Interaction;
import com.reflexio.v1.InteractionData;
import com.reflexio.v1.InteractionServiceGrpc;
import com.reflexio.v1.LoginRequest;
import com.reflexio.v1.LoginResponse;
import com.reflexio.v1.Order;
import com.reflexio.v1.PublishInteractionStreamRequest;
import com.reflexio.v1.PublishInteractionStreamResponse;
import com.reflexio.v1.PublishInteractionsRequest;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.ClientResponseObserver;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/** A channel, and the key that goes with each call. */
final class Client {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  final String address;
  private final Channel plain;
  Channel channel;
  AuthServiceGrpc.AuthServiceBlockingStub auth;
  InteractionServiceGrpc.InteractionServiceBlockingStub interactions;

  Client(String address) {
    this(address, Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build(), "");
  }

  private Client(String address, Channel plain, String key) {
    this.address = address;
    this.plain = plain;
    use(key);
  }

  /** The same connection with another key, or without one if it is empty. */
  Client withKey(String key) {
    return new Client(address, plain, key);
  }

  private void use(String key) {
    var headers = new Metadata();
    if (!key.isEmpty()) {
      headers.put(AUTHORIZATION, "Bearer " + key);
    }
    channel = ClientInterceptors.intercept(plain, MetadataUtils.newAttachHeadersInterceptor(headers));
    auth = AuthServiceGrpc.newBlockingStub(channel);
    interactions = InteractionServiceGrpc.newBlockingStub(channel);
  }

  LoginResponse logIn(String email, String password) {
    var login = auth.login(LoginRequest.newBuilder().setEmail(email).setPassword(password).build());
    use(login.getApiKey());
    return login;
  }

  PublishInteractionStreamResponse stream(Iterator<PublishInteractionsRequest> requests) throws Exception {
    var method = InteractionServiceGrpc.getPublishInteractionStreamMethod();
    return stream(method, new Iterator<PublishInteractionStreamRequest>() {
      @Override
      public boolean hasNext() {
        return requests.hasNext();
      }

      @Override
      public PublishInteractionStreamRequest next() {
        return PublishInteractionStreamRequest.newBuilder().setRequest(requests.next()).build();
      }
    });
  }

  /** Sends the messages no faster than the connection takes them, and waits for the answer. */
  <T, R> R stream(MethodDescriptor<T, R> method, Iterator<T> messages) throws Exception {
    var answer = new Answer<T, R>() {
      private boolean completed;

      @Override
      public void beforeStart(ClientCallStreamObserver<T> sender) {
        sender.setOnReadyHandler(() -> {
          while (sender.isReady() && !completed) {
            if (messages.hasNext()) {
              sender.onNext(messages.next());
            } else {
              completed = true;
              sender.onCompleted();
            }
          }
        });
      }
    };
    ClientCalls.asyncClientStreamingCall(channel.newCall(method, timeLimited()), answer);
    return answer.get();
  }

  /** A stream that has sent these requests and stays open. */
  OpenStream open(CallOptions options, String userId, List<String> requestIds) {
    var stream = new OpenStream();
    var method = InteractionServiceGrpc.getPublishInteractionStreamMethod();
    var sender = ClientCalls.asyncClientStreamingCall(channel.newCall(method, options), stream);
    for (var requestId : requestIds) {
      sender.onNext(PublishInteractionStreamRequest.newBuilder().setRequest(say(userId, requestId)).build());
    }
    return stream;
  }

  List<List<Interaction>> pages(GetInteractionsRequest request, Runnable afterTheFirst) {
    var pages = new ArrayList<List<Interaction>>();
    for (var token = ""; ; ) {
      var page = interactions.getInteractions(request.toBuilder().setPageToken(token).build());
      pages.add(page.getInteractionsList());
      if (pages.size() == 1) {
        afterTheFirst.run();
      }
      token = page.getNextPageToken();
      if (token.isEmpty()) {
        return pages;
      }
    }
  }

  List<Interaction> listed(GetInteractionsRequest.Builder request) {
    return pages(request.setOrder(Order.ORDER_OLDEST_FIRST).build(), () -> {}).stream().flatMap(List::stream).toList();
  }

  /** How many interactions of the user are stored, once there are so many, or after 10 seconds. */
  int waitFor(String userId, int count) throws InterruptedException {
    var found = 0;
    for (var i = 0; i < 200; i++) {
      found = listed(GetInteractionsRequest.newBuilder().setUserId(userId)).size();
      if (found >= count) {
        break;
      }
      Thread.sleep(50);
    }
    return found;
  }

  /** A picture in its chunks. */
  List<ByteString> image(GetImageRequest request) {
    var chunks = new ArrayList<ByteString>();
    interactions.getImage(request).forEachRemaining(part -> chunks.add(part.getData()));
    return chunks;
  }

  static CallOptions timeLimited() {
    return CallOptions.DEFAULT.withDeadlineAfter(60, TimeUnit.SECONDS);
  }

  /** A request with one interaction, which says its request's id. */
  static PublishInteractionsRequest say(String userId, String requestId) {
    return PublishInteractionsRequest.newBuilder()
        .setUserId(userId)
        .setRequestId(requestId)
        .addInteractions(InteractionData.newBuilder().setContent(requestId))
        .build();
  }

  static final class OpenStream extends Answer<PublishInteractionStreamRequest, PublishInteractionStreamResponse> {
    private ClientCallStreamObserver<PublishInteractionStreamRequest> sender;

    @Override
    public void beforeStart(ClientCallStreamObserver<PublishInteractionStreamRequest> sender) {
      this.sender = sender;
    }

    void cancel() {
      sender.cancel("the scenario wants it", null);
    }
  }

  /** The one answer of a client stream, to wait for. */
  abstract static class Answer<T, R> implements ClientResponseObserver<T, R> {
    private final CompletableFuture<R> answer = new CompletableFuture<>();

    @Override
    public void onNext(R value) {
      answer.complete(value);
    }

    @Override
    public void onError(Throwable error) {
      answer.completeExceptionally(error);
    }

    @Override
    public void onCompleted() {}

    R get() throws Exception {
      try {
        return answer.get();
      } catch (ExecutionException error) {
        throw (Exception) error.getCause();
      }
    }
  }
}
