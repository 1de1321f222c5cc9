package com.reflexio.v1;

import static io.grpc.MethodDescriptor.generateFullMethodName;

/**
 * <pre>
 * InteractionService stores interactions and finds them again.
 * Every RPC needs an API key, sent as the metadata
 * `authorization: Bearer &lt;key&gt;`, and sees only the key's own account. No
 * response is larger than 3 MiB. Errors carry google.rpc details; see
 * ErrorReason.
 * </pre>
 */
@io.grpc.stub.annotations.GrpcGenerated
public final class InteractionServiceGrpc {

  private InteractionServiceGrpc() {}

  public static final java.lang.String SERVICE_NAME = "reflexio.v1.InteractionService";

  // Static method descriptors that strictly reflect the proto.
  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.PublishInteractionsRequest,
      com.reflexio.v1.PublishInteractionsResponse> getPublishInteractionsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "PublishInteractions",
      requestType = com.reflexio.v1.PublishInteractionsRequest.class,
      responseType = com.reflexio.v1.PublishInteractionsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.PublishInteractionsRequest,
      com.reflexio.v1.PublishInteractionsResponse> getPublishInteractionsMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.PublishInteractionsRequest, com.reflexio.v1.PublishInteractionsResponse> getPublishInteractionsMethod;
    if ((getPublishInteractionsMethod = InteractionServiceGrpc.getPublishInteractionsMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getPublishInteractionsMethod = InteractionServiceGrpc.getPublishInteractionsMethod) == null) {
          InteractionServiceGrpc.getPublishInteractionsMethod = getPublishInteractionsMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.PublishInteractionsRequest, com.reflexio.v1.PublishInteractionsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "PublishInteractions"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.PublishInteractionsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.PublishInteractionsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("PublishInteractions"))
              .build();
        }
      }
    }
    return getPublishInteractionsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.PublishInteractionStreamRequest,
      com.reflexio.v1.PublishInteractionStreamResponse> getPublishInteractionStreamMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "PublishInteractionStream",
      requestType = com.reflexio.v1.PublishInteractionStreamRequest.class,
      responseType = com.reflexio.v1.PublishInteractionStreamResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.CLIENT_STREAMING)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.PublishInteractionStreamRequest,
      com.reflexio.v1.PublishInteractionStreamResponse> getPublishInteractionStreamMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.PublishInteractionStreamRequest, com.reflexio.v1.PublishInteractionStreamResponse> getPublishInteractionStreamMethod;
    if ((getPublishInteractionStreamMethod = InteractionServiceGrpc.getPublishInteractionStreamMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getPublishInteractionStreamMethod = InteractionServiceGrpc.getPublishInteractionStreamMethod) == null) {
          InteractionServiceGrpc.getPublishInteractionStreamMethod = getPublishInteractionStreamMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.PublishInteractionStreamRequest, com.reflexio.v1.PublishInteractionStreamResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.CLIENT_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "PublishInteractionStream"))
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.PublishInteractionStreamRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.PublishInteractionStreamResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("PublishInteractionStream"))
              .build();
        }
      }
    }
    return getPublishInteractionStreamMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.SearchInteractionsRequest,
      com.reflexio.v1.SearchInteractionsResponse> getSearchInteractionsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "SearchInteractions",
      requestType = com.reflexio.v1.SearchInteractionsRequest.class,
      responseType = com.reflexio.v1.SearchInteractionsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.SearchInteractionsRequest,
      com.reflexio.v1.SearchInteractionsResponse> getSearchInteractionsMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.SearchInteractionsRequest, com.reflexio.v1.SearchInteractionsResponse> getSearchInteractionsMethod;
    if ((getSearchInteractionsMethod = InteractionServiceGrpc.getSearchInteractionsMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getSearchInteractionsMethod = InteractionServiceGrpc.getSearchInteractionsMethod) == null) {
          InteractionServiceGrpc.getSearchInteractionsMethod = getSearchInteractionsMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.SearchInteractionsRequest, com.reflexio.v1.SearchInteractionsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "SearchInteractions"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.SearchInteractionsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.SearchInteractionsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("SearchInteractions"))
              .build();
        }
      }
    }
    return getSearchInteractionsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.GetInteractionsRequest,
      com.reflexio.v1.GetInteractionsResponse> getGetInteractionsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetInteractions",
      requestType = com.reflexio.v1.GetInteractionsRequest.class,
      responseType = com.reflexio.v1.GetInteractionsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.GetInteractionsRequest,
      com.reflexio.v1.GetInteractionsResponse> getGetInteractionsMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.GetInteractionsRequest, com.reflexio.v1.GetInteractionsResponse> getGetInteractionsMethod;
    if ((getGetInteractionsMethod = InteractionServiceGrpc.getGetInteractionsMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getGetInteractionsMethod = InteractionServiceGrpc.getGetInteractionsMethod) == null) {
          InteractionServiceGrpc.getGetInteractionsMethod = getGetInteractionsMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.GetInteractionsRequest, com.reflexio.v1.GetInteractionsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetInteractions"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.GetInteractionsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.GetInteractionsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("GetInteractions"))
              .build();
        }
      }
    }
    return getGetInteractionsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.GetRequestsRequest,
      com.reflexio.v1.GetRequestsResponse> getGetRequestsMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetRequests",
      requestType = com.reflexio.v1.GetRequestsRequest.class,
      responseType = com.reflexio.v1.GetRequestsResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.GetRequestsRequest,
      com.reflexio.v1.GetRequestsResponse> getGetRequestsMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.GetRequestsRequest, com.reflexio.v1.GetRequestsResponse> getGetRequestsMethod;
    if ((getGetRequestsMethod = InteractionServiceGrpc.getGetRequestsMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getGetRequestsMethod = InteractionServiceGrpc.getGetRequestsMethod) == null) {
          InteractionServiceGrpc.getGetRequestsMethod = getGetRequestsMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.GetRequestsRequest, com.reflexio.v1.GetRequestsResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetRequests"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.GetRequestsRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.GetRequestsResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("GetRequests"))
              .build();
        }
      }
    }
    return getGetRequestsMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.GetImageRequest,
      com.reflexio.v1.GetImageResponse> getGetImageMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "GetImage",
      requestType = com.reflexio.v1.GetImageRequest.class,
      responseType = com.reflexio.v1.GetImageResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.GetImageRequest,
      com.reflexio.v1.GetImageResponse> getGetImageMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.GetImageRequest, com.reflexio.v1.GetImageResponse> getGetImageMethod;
    if ((getGetImageMethod = InteractionServiceGrpc.getGetImageMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getGetImageMethod = InteractionServiceGrpc.getGetImageMethod) == null) {
          InteractionServiceGrpc.getGetImageMethod = getGetImageMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.GetImageRequest, com.reflexio.v1.GetImageResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.SERVER_STREAMING)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "GetImage"))
              .setSafe(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.GetImageRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.GetImageResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("GetImage"))
              .build();
        }
      }
    }
    return getGetImageMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.DeleteInteractionRequest,
      com.reflexio.v1.DeleteInteractionResponse> getDeleteInteractionMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteInteraction",
      requestType = com.reflexio.v1.DeleteInteractionRequest.class,
      responseType = com.reflexio.v1.DeleteInteractionResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.DeleteInteractionRequest,
      com.reflexio.v1.DeleteInteractionResponse> getDeleteInteractionMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.DeleteInteractionRequest, com.reflexio.v1.DeleteInteractionResponse> getDeleteInteractionMethod;
    if ((getDeleteInteractionMethod = InteractionServiceGrpc.getDeleteInteractionMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getDeleteInteractionMethod = InteractionServiceGrpc.getDeleteInteractionMethod) == null) {
          InteractionServiceGrpc.getDeleteInteractionMethod = getDeleteInteractionMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.DeleteInteractionRequest, com.reflexio.v1.DeleteInteractionResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteInteraction"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.DeleteInteractionRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.DeleteInteractionResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("DeleteInteraction"))
              .build();
        }
      }
    }
    return getDeleteInteractionMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.DeleteRequestRequest,
      com.reflexio.v1.DeleteRequestResponse> getDeleteRequestMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteRequest",
      requestType = com.reflexio.v1.DeleteRequestRequest.class,
      responseType = com.reflexio.v1.DeleteRequestResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.DeleteRequestRequest,
      com.reflexio.v1.DeleteRequestResponse> getDeleteRequestMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.DeleteRequestRequest, com.reflexio.v1.DeleteRequestResponse> getDeleteRequestMethod;
    if ((getDeleteRequestMethod = InteractionServiceGrpc.getDeleteRequestMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getDeleteRequestMethod = InteractionServiceGrpc.getDeleteRequestMethod) == null) {
          InteractionServiceGrpc.getDeleteRequestMethod = getDeleteRequestMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.DeleteRequestRequest, com.reflexio.v1.DeleteRequestResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteRequest"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.DeleteRequestRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.DeleteRequestResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("DeleteRequest"))
              .build();
        }
      }
    }
    return getDeleteRequestMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.DeleteRequestGroupRequest,
      com.reflexio.v1.DeleteRequestGroupResponse> getDeleteRequestGroupMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteRequestGroup",
      requestType = com.reflexio.v1.DeleteRequestGroupRequest.class,
      responseType = com.reflexio.v1.DeleteRequestGroupResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.DeleteRequestGroupRequest,
      com.reflexio.v1.DeleteRequestGroupResponse> getDeleteRequestGroupMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.DeleteRequestGroupRequest, com.reflexio.v1.DeleteRequestGroupResponse> getDeleteRequestGroupMethod;
    if ((getDeleteRequestGroupMethod = InteractionServiceGrpc.getDeleteRequestGroupMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getDeleteRequestGroupMethod = InteractionServiceGrpc.getDeleteRequestGroupMethod) == null) {
          InteractionServiceGrpc.getDeleteRequestGroupMethod = getDeleteRequestGroupMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.DeleteRequestGroupRequest, com.reflexio.v1.DeleteRequestGroupResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteRequestGroup"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.DeleteRequestGroupRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.DeleteRequestGroupResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("DeleteRequestGroup"))
              .build();
        }
      }
    }
    return getDeleteRequestGroupMethod;
  }

  private static volatile io.grpc.MethodDescriptor<com.reflexio.v1.DeleteUserRequest,
      com.reflexio.v1.DeleteUserResponse> getDeleteUserMethod;

  @io.grpc.stub.annotations.RpcMethod(
      fullMethodName = SERVICE_NAME + '/' + "DeleteUser",
      requestType = com.reflexio.v1.DeleteUserRequest.class,
      responseType = com.reflexio.v1.DeleteUserResponse.class,
      methodType = io.grpc.MethodDescriptor.MethodType.UNARY)
  public static io.grpc.MethodDescriptor<com.reflexio.v1.DeleteUserRequest,
      com.reflexio.v1.DeleteUserResponse> getDeleteUserMethod() {
    io.grpc.MethodDescriptor<com.reflexio.v1.DeleteUserRequest, com.reflexio.v1.DeleteUserResponse> getDeleteUserMethod;
    if ((getDeleteUserMethod = InteractionServiceGrpc.getDeleteUserMethod) == null) {
      synchronized (InteractionServiceGrpc.class) {
        if ((getDeleteUserMethod = InteractionServiceGrpc.getDeleteUserMethod) == null) {
          InteractionServiceGrpc.getDeleteUserMethod = getDeleteUserMethod =
              io.grpc.MethodDescriptor.<com.reflexio.v1.DeleteUserRequest, com.reflexio.v1.DeleteUserResponse>newBuilder()
              .setType(io.grpc.MethodDescriptor.MethodType.UNARY)
              .setFullMethodName(generateFullMethodName(SERVICE_NAME, "DeleteUser"))
              .setIdempotent(true)
              .setSampledToLocalTracing(true)
              .setRequestMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.DeleteUserRequest.getDefaultInstance()))
              .setResponseMarshaller(io.grpc.protobuf.ProtoUtils.marshaller(
                  com.reflexio.v1.DeleteUserResponse.getDefaultInstance()))
              .setSchemaDescriptor(new InteractionServiceMethodDescriptorSupplier("DeleteUser"))
              .build();
        }
      }
    }
    return getDeleteUserMethod;
  }

  /**
   * Creates a new async stub that supports all call types for the service
   */
  public static InteractionServiceStub newStub(io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<InteractionServiceStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<InteractionServiceStub>() {
        @java.lang.Override
        public InteractionServiceStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new InteractionServiceStub(channel, callOptions);
        }
      };
    return InteractionServiceStub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports all types of calls on the service
   */
  public static InteractionServiceBlockingV2Stub newBlockingV2Stub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<InteractionServiceBlockingV2Stub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<InteractionServiceBlockingV2Stub>() {
        @java.lang.Override
        public InteractionServiceBlockingV2Stub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new InteractionServiceBlockingV2Stub(channel, callOptions);
        }
      };
    return InteractionServiceBlockingV2Stub.newStub(factory, channel);
  }

  /**
   * Creates a new blocking-style stub that supports unary and streaming output calls on the service
   */
  public static InteractionServiceBlockingStub newBlockingStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<InteractionServiceBlockingStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<InteractionServiceBlockingStub>() {
        @java.lang.Override
        public InteractionServiceBlockingStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new InteractionServiceBlockingStub(channel, callOptions);
        }
      };
    return InteractionServiceBlockingStub.newStub(factory, channel);
  }

  /**
   * Creates a new ListenableFuture-style stub that supports unary calls on the service
   */
  public static InteractionServiceFutureStub newFutureStub(
      io.grpc.Channel channel) {
    io.grpc.stub.AbstractStub.StubFactory<InteractionServiceFutureStub> factory =
      new io.grpc.stub.AbstractStub.StubFactory<InteractionServiceFutureStub>() {
        @java.lang.Override
        public InteractionServiceFutureStub newStub(io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
          return new InteractionServiceFutureStub(channel, callOptions);
        }
      };
    return InteractionServiceFutureStub.newStub(factory, channel);
  }

  /**
   * <pre>
   * InteractionService stores interactions and finds them again.
   * Every RPC needs an API key, sent as the metadata
   * `authorization: Bearer &lt;key&gt;`, and sees only the key's own account. No
   * response is larger than 3 MiB. Errors carry google.rpc details; see
   * ErrorReason.
   * </pre>
   */
  public interface AsyncService {

    /**
     * <pre>
     * Stores one request with its interactions, all or nothing. It is on disk
     * when the answer comes.
     * Only calls that carry a request_id can be repeated safely: the same id with
     * the same body gives the first answer again with `replayed`, the same id
     * with another body is ALREADY_EXISTS.
     * </pre>
     */
    default void publishInteractions(com.reflexio.v1.PublishInteractionsRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.PublishInteractionsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getPublishInteractionsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Stores many requests, one or several in a message. Each commits on its own:
     * a bad one is reported as a rejection and never costs its neighbours.
     * The answer covers the prefix that was handled; `end_reason` says whether
     * that is all of it. A stream that breaks has kept what was committed; sent
     * again, that part counts as duplicate.
     * </pre>
     */
    default io.grpc.stub.StreamObserver<com.reflexio.v1.PublishInteractionStreamRequest> publishInteractionStream(
        io.grpc.stub.StreamObserver<com.reflexio.v1.PublishInteractionStreamResponse> responseObserver) {
      return io.grpc.stub.ServerCalls.asyncUnimplementedStreamingCall(getPublishInteractionStreamMethod(), responseObserver);
    }

    /**
     * <pre>
     * Finds interactions by meaning and by words, best first. Without a query:
     * the newest first.
     * It sees everything acknowledged before the call by its words at once, and
     * by its meaning except for what `unindexed_count` counts.
     * </pre>
     */
    default void searchInteractions(com.reflexio.v1.SearchInteractionsRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.SearchInteractionsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getSearchInteractionsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Reads interactions in the order of time, page by page. Interactions stored
     * after the first page do not appear in later ones.
     * </pre>
     */
    default void getInteractions(com.reflexio.v1.GetInteractionsRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.GetInteractionsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetInteractionsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Reads a user's requests by request_group with their interactions, page by
     * page. Requests stored after the first page do not appear in later ones.
     * Erasing the newest request of a thread meanwhile (oldest first: the oldest)
     * may bring the thread's other requests once more.
     * </pre>
     */
    default void getRequests(com.reflexio.v1.GetRequestsRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.GetRequestsResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetRequestsMethod(), responseObserver);
    }

    /**
     * <pre>
     * Streams one picture. The first message has `image`, the others only `data`,
     * in chunks of 1 MiB.
     * </pre>
     */
    default void getImage(com.reflexio.v1.GetImageRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.GetImageResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getGetImageMethod(), responseObserver);
    }

    /**
     * <pre>
     * Erases one interaction: its row, its words, its vectors, and its picture
     * when no other interaction of the account has it. What is not there, erased
     * before, or another account's is NOT_FOUND; so a repeat after a lost answer
     * may be NOT_FOUND too.
     * Its request stays, and publishing that again gives the first answer again:
     * the interaction does not come back. The last interaction of a request
     * erases the request.
     * </pre>
     */
    default void deleteInteraction(com.reflexio.v1.DeleteInteractionRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteInteractionResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteInteractionMethod(), responseObserver);
    }

    /**
     * <pre>
     * Erases one request with all its interactions. Its request_id stays taken:
     * publishing it again is ALREADY_EXISTS, whatever the body.
     * </pre>
     */
    default void deleteRequest(com.reflexio.v1.DeleteRequestRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteRequestResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteRequestMethod(), responseObserver);
    }

    /**
     * <pre>
     * Erases every request of a user's thread that was stored before the call.
     * </pre>
     */
    default void deleteRequestGroup(com.reflexio.v1.DeleteRequestGroupRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteRequestGroupResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteRequestGroupMethod(), responseObserver);
    }

    /**
     * <pre>
     * Erases everything of a user that was stored before the call, and the user.
     * Much is erased step by step: a call that ends early, as at its deadline,
     * has erased a part, and another goes on from there.
     * </pre>
     */
    default void deleteUser(com.reflexio.v1.DeleteUserRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteUserResponse> responseObserver) {
      io.grpc.stub.ServerCalls.asyncUnimplementedUnaryCall(getDeleteUserMethod(), responseObserver);
    }
  }

  /**
   * Base class for the server implementation of the service InteractionService.
   * <pre>
   * InteractionService stores interactions and finds them again.
   * Every RPC needs an API key, sent as the metadata
   * `authorization: Bearer &lt;key&gt;`, and sees only the key's own account. No
   * response is larger than 3 MiB. Errors carry google.rpc details; see
   * ErrorReason.
   * </pre>
   */
  public static abstract class InteractionServiceImplBase
      implements io.grpc.BindableService, AsyncService {

    @java.lang.Override public final io.grpc.ServerServiceDefinition bindService() {
      return InteractionServiceGrpc.bindService(this);
    }
  }

  /**
   * A stub to allow clients to do asynchronous rpc calls to service InteractionService.
   * <pre>
   * InteractionService stores interactions and finds them again.
   * Every RPC needs an API key, sent as the metadata
   * `authorization: Bearer &lt;key&gt;`, and sees only the key's own account. No
   * response is larger than 3 MiB. Errors carry google.rpc details; see
   * ErrorReason.
   * </pre>
   */
  public static final class InteractionServiceStub
      extends io.grpc.stub.AbstractAsyncStub<InteractionServiceStub> {
    private InteractionServiceStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected InteractionServiceStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new InteractionServiceStub(channel, callOptions);
    }

    /**
     * <pre>
     * Stores one request with its interactions, all or nothing. It is on disk
     * when the answer comes.
     * Only calls that carry a request_id can be repeated safely: the same id with
     * the same body gives the first answer again with `replayed`, the same id
     * with another body is ALREADY_EXISTS.
     * </pre>
     */
    public void publishInteractions(com.reflexio.v1.PublishInteractionsRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.PublishInteractionsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getPublishInteractionsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Stores many requests, one or several in a message. Each commits on its own:
     * a bad one is reported as a rejection and never costs its neighbours.
     * The answer covers the prefix that was handled; `end_reason` says whether
     * that is all of it. A stream that breaks has kept what was committed; sent
     * again, that part counts as duplicate.
     * </pre>
     */
    public io.grpc.stub.StreamObserver<com.reflexio.v1.PublishInteractionStreamRequest> publishInteractionStream(
        io.grpc.stub.StreamObserver<com.reflexio.v1.PublishInteractionStreamResponse> responseObserver) {
      return io.grpc.stub.ClientCalls.asyncClientStreamingCall(
          getChannel().newCall(getPublishInteractionStreamMethod(), getCallOptions()), responseObserver);
    }

    /**
     * <pre>
     * Finds interactions by meaning and by words, best first. Without a query:
     * the newest first.
     * It sees everything acknowledged before the call by its words at once, and
     * by its meaning except for what `unindexed_count` counts.
     * </pre>
     */
    public void searchInteractions(com.reflexio.v1.SearchInteractionsRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.SearchInteractionsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getSearchInteractionsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Reads interactions in the order of time, page by page. Interactions stored
     * after the first page do not appear in later ones.
     * </pre>
     */
    public void getInteractions(com.reflexio.v1.GetInteractionsRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.GetInteractionsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetInteractionsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Reads a user's requests by request_group with their interactions, page by
     * page. Requests stored after the first page do not appear in later ones.
     * Erasing the newest request of a thread meanwhile (oldest first: the oldest)
     * may bring the thread's other requests once more.
     * </pre>
     */
    public void getRequests(com.reflexio.v1.GetRequestsRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.GetRequestsResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getGetRequestsMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Streams one picture. The first message has `image`, the others only `data`,
     * in chunks of 1 MiB.
     * </pre>
     */
    public void getImage(com.reflexio.v1.GetImageRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.GetImageResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncServerStreamingCall(
          getChannel().newCall(getGetImageMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Erases one interaction: its row, its words, its vectors, and its picture
     * when no other interaction of the account has it. What is not there, erased
     * before, or another account's is NOT_FOUND; so a repeat after a lost answer
     * may be NOT_FOUND too.
     * Its request stays, and publishing that again gives the first answer again:
     * the interaction does not come back. The last interaction of a request
     * erases the request.
     * </pre>
     */
    public void deleteInteraction(com.reflexio.v1.DeleteInteractionRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteInteractionResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteInteractionMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Erases one request with all its interactions. Its request_id stays taken:
     * publishing it again is ALREADY_EXISTS, whatever the body.
     * </pre>
     */
    public void deleteRequest(com.reflexio.v1.DeleteRequestRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteRequestResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteRequestMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Erases every request of a user's thread that was stored before the call.
     * </pre>
     */
    public void deleteRequestGroup(com.reflexio.v1.DeleteRequestGroupRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteRequestGroupResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteRequestGroupMethod(), getCallOptions()), request, responseObserver);
    }

    /**
     * <pre>
     * Erases everything of a user that was stored before the call, and the user.
     * Much is erased step by step: a call that ends early, as at its deadline,
     * has erased a part, and another goes on from there.
     * </pre>
     */
    public void deleteUser(com.reflexio.v1.DeleteUserRequest request,
        io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteUserResponse> responseObserver) {
      io.grpc.stub.ClientCalls.asyncUnaryCall(
          getChannel().newCall(getDeleteUserMethod(), getCallOptions()), request, responseObserver);
    }
  }

  /**
   * A stub to allow clients to do synchronous rpc calls to service InteractionService.
   * <pre>
   * InteractionService stores interactions and finds them again.
   * Every RPC needs an API key, sent as the metadata
   * `authorization: Bearer &lt;key&gt;`, and sees only the key's own account. No
   * response is larger than 3 MiB. Errors carry google.rpc details; see
   * ErrorReason.
   * </pre>
   */
  public static final class InteractionServiceBlockingV2Stub
      extends io.grpc.stub.AbstractBlockingStub<InteractionServiceBlockingV2Stub> {
    private InteractionServiceBlockingV2Stub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected InteractionServiceBlockingV2Stub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new InteractionServiceBlockingV2Stub(channel, callOptions);
    }

    /**
     * <pre>
     * Stores one request with its interactions, all or nothing. It is on disk
     * when the answer comes.
     * Only calls that carry a request_id can be repeated safely: the same id with
     * the same body gives the first answer again with `replayed`, the same id
     * with another body is ALREADY_EXISTS.
     * </pre>
     */
    public com.reflexio.v1.PublishInteractionsResponse publishInteractions(com.reflexio.v1.PublishInteractionsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getPublishInteractionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Stores many requests, one or several in a message. Each commits on its own:
     * a bad one is reported as a rejection and never costs its neighbours.
     * The answer covers the prefix that was handled; `end_reason` says whether
     * that is all of it. A stream that breaks has kept what was committed; sent
     * again, that part counts as duplicate.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<com.reflexio.v1.PublishInteractionStreamRequest, com.reflexio.v1.PublishInteractionStreamResponse>
        publishInteractionStream() {
      return io.grpc.stub.ClientCalls.blockingClientStreamingCall(
          getChannel(), getPublishInteractionStreamMethod(), getCallOptions());
    }

    /**
     * <pre>
     * Finds interactions by meaning and by words, best first. Without a query:
     * the newest first.
     * It sees everything acknowledged before the call by its words at once, and
     * by its meaning except for what `unindexed_count` counts.
     * </pre>
     */
    public com.reflexio.v1.SearchInteractionsResponse searchInteractions(com.reflexio.v1.SearchInteractionsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getSearchInteractionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads interactions in the order of time, page by page. Interactions stored
     * after the first page do not appear in later ones.
     * </pre>
     */
    public com.reflexio.v1.GetInteractionsResponse getInteractions(com.reflexio.v1.GetInteractionsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetInteractionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads a user's requests by request_group with their interactions, page by
     * page. Requests stored after the first page do not appear in later ones.
     * Erasing the newest request of a thread meanwhile (oldest first: the oldest)
     * may bring the thread's other requests once more.
     * </pre>
     */
    public com.reflexio.v1.GetRequestsResponse getRequests(com.reflexio.v1.GetRequestsRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getGetRequestsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams one picture. The first message has `image`, the others only `data`,
     * in chunks of 1 MiB.
     * </pre>
     */
    @io.grpc.ExperimentalApi("https://github.com/grpc/grpc-java/issues/10918")
    public io.grpc.stub.BlockingClientCall<?, com.reflexio.v1.GetImageResponse>
        getImage(com.reflexio.v1.GetImageRequest request) {
      return io.grpc.stub.ClientCalls.blockingV2ServerStreamingCall(
          getChannel(), getGetImageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases one interaction: its row, its words, its vectors, and its picture
     * when no other interaction of the account has it. What is not there, erased
     * before, or another account's is NOT_FOUND; so a repeat after a lost answer
     * may be NOT_FOUND too.
     * Its request stays, and publishing that again gives the first answer again:
     * the interaction does not come back. The last interaction of a request
     * erases the request.
     * </pre>
     */
    public com.reflexio.v1.DeleteInteractionResponse deleteInteraction(com.reflexio.v1.DeleteInteractionRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDeleteInteractionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases one request with all its interactions. Its request_id stays taken:
     * publishing it again is ALREADY_EXISTS, whatever the body.
     * </pre>
     */
    public com.reflexio.v1.DeleteRequestResponse deleteRequest(com.reflexio.v1.DeleteRequestRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDeleteRequestMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases every request of a user's thread that was stored before the call.
     * </pre>
     */
    public com.reflexio.v1.DeleteRequestGroupResponse deleteRequestGroup(com.reflexio.v1.DeleteRequestGroupRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDeleteRequestGroupMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases everything of a user that was stored before the call, and the user.
     * Much is erased step by step: a call that ends early, as at its deadline,
     * has erased a part, and another goes on from there.
     * </pre>
     */
    public com.reflexio.v1.DeleteUserResponse deleteUser(com.reflexio.v1.DeleteUserRequest request) throws io.grpc.StatusException {
      return io.grpc.stub.ClientCalls.blockingV2UnaryCall(
          getChannel(), getDeleteUserMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do limited synchronous rpc calls to service InteractionService.
   * <pre>
   * InteractionService stores interactions and finds them again.
   * Every RPC needs an API key, sent as the metadata
   * `authorization: Bearer &lt;key&gt;`, and sees only the key's own account. No
   * response is larger than 3 MiB. Errors carry google.rpc details; see
   * ErrorReason.
   * </pre>
   */
  public static final class InteractionServiceBlockingStub
      extends io.grpc.stub.AbstractBlockingStub<InteractionServiceBlockingStub> {
    private InteractionServiceBlockingStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected InteractionServiceBlockingStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new InteractionServiceBlockingStub(channel, callOptions);
    }

    /**
     * <pre>
     * Stores one request with its interactions, all or nothing. It is on disk
     * when the answer comes.
     * Only calls that carry a request_id can be repeated safely: the same id with
     * the same body gives the first answer again with `replayed`, the same id
     * with another body is ALREADY_EXISTS.
     * </pre>
     */
    public com.reflexio.v1.PublishInteractionsResponse publishInteractions(com.reflexio.v1.PublishInteractionsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getPublishInteractionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Finds interactions by meaning and by words, best first. Without a query:
     * the newest first.
     * It sees everything acknowledged before the call by its words at once, and
     * by its meaning except for what `unindexed_count` counts.
     * </pre>
     */
    public com.reflexio.v1.SearchInteractionsResponse searchInteractions(com.reflexio.v1.SearchInteractionsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getSearchInteractionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads interactions in the order of time, page by page. Interactions stored
     * after the first page do not appear in later ones.
     * </pre>
     */
    public com.reflexio.v1.GetInteractionsResponse getInteractions(com.reflexio.v1.GetInteractionsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetInteractionsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Reads a user's requests by request_group with their interactions, page by
     * page. Requests stored after the first page do not appear in later ones.
     * Erasing the newest request of a thread meanwhile (oldest first: the oldest)
     * may bring the thread's other requests once more.
     * </pre>
     */
    public com.reflexio.v1.GetRequestsResponse getRequests(com.reflexio.v1.GetRequestsRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getGetRequestsMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Streams one picture. The first message has `image`, the others only `data`,
     * in chunks of 1 MiB.
     * </pre>
     */
    public java.util.Iterator<com.reflexio.v1.GetImageResponse> getImage(
        com.reflexio.v1.GetImageRequest request) {
      return io.grpc.stub.ClientCalls.blockingServerStreamingCall(
          getChannel(), getGetImageMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases one interaction: its row, its words, its vectors, and its picture
     * when no other interaction of the account has it. What is not there, erased
     * before, or another account's is NOT_FOUND; so a repeat after a lost answer
     * may be NOT_FOUND too.
     * Its request stays, and publishing that again gives the first answer again:
     * the interaction does not come back. The last interaction of a request
     * erases the request.
     * </pre>
     */
    public com.reflexio.v1.DeleteInteractionResponse deleteInteraction(com.reflexio.v1.DeleteInteractionRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteInteractionMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases one request with all its interactions. Its request_id stays taken:
     * publishing it again is ALREADY_EXISTS, whatever the body.
     * </pre>
     */
    public com.reflexio.v1.DeleteRequestResponse deleteRequest(com.reflexio.v1.DeleteRequestRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteRequestMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases every request of a user's thread that was stored before the call.
     * </pre>
     */
    public com.reflexio.v1.DeleteRequestGroupResponse deleteRequestGroup(com.reflexio.v1.DeleteRequestGroupRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteRequestGroupMethod(), getCallOptions(), request);
    }

    /**
     * <pre>
     * Erases everything of a user that was stored before the call, and the user.
     * Much is erased step by step: a call that ends early, as at its deadline,
     * has erased a part, and another goes on from there.
     * </pre>
     */
    public com.reflexio.v1.DeleteUserResponse deleteUser(com.reflexio.v1.DeleteUserRequest request) {
      return io.grpc.stub.ClientCalls.blockingUnaryCall(
          getChannel(), getDeleteUserMethod(), getCallOptions(), request);
    }
  }

  /**
   * A stub to allow clients to do ListenableFuture-style rpc calls to service InteractionService.
   * <pre>
   * InteractionService stores interactions and finds them again.
   * Every RPC needs an API key, sent as the metadata
   * `authorization: Bearer &lt;key&gt;`, and sees only the key's own account. No
   * response is larger than 3 MiB. Errors carry google.rpc details; see
   * ErrorReason.
   * </pre>
   */
  public static final class InteractionServiceFutureStub
      extends io.grpc.stub.AbstractFutureStub<InteractionServiceFutureStub> {
    private InteractionServiceFutureStub(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      super(channel, callOptions);
    }

    @java.lang.Override
    protected InteractionServiceFutureStub build(
        io.grpc.Channel channel, io.grpc.CallOptions callOptions) {
      return new InteractionServiceFutureStub(channel, callOptions);
    }

    /**
     * <pre>
     * Stores one request with its interactions, all or nothing. It is on disk
     * when the answer comes.
     * Only calls that carry a request_id can be repeated safely: the same id with
     * the same body gives the first answer again with `replayed`, the same id
     * with another body is ALREADY_EXISTS.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.reflexio.v1.PublishInteractionsResponse> publishInteractions(
        com.reflexio.v1.PublishInteractionsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getPublishInteractionsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Finds interactions by meaning and by words, best first. Without a query:
     * the newest first.
     * It sees everything acknowledged before the call by its words at once, and
     * by its meaning except for what `unindexed_count` counts.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.reflexio.v1.SearchInteractionsResponse> searchInteractions(
        com.reflexio.v1.SearchInteractionsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getSearchInteractionsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Reads interactions in the order of time, page by page. Interactions stored
     * after the first page do not appear in later ones.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.reflexio.v1.GetInteractionsResponse> getInteractions(
        com.reflexio.v1.GetInteractionsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetInteractionsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Reads a user's requests by request_group with their interactions, page by
     * page. Requests stored after the first page do not appear in later ones.
     * Erasing the newest request of a thread meanwhile (oldest first: the oldest)
     * may bring the thread's other requests once more.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.reflexio.v1.GetRequestsResponse> getRequests(
        com.reflexio.v1.GetRequestsRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getGetRequestsMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Erases one interaction: its row, its words, its vectors, and its picture
     * when no other interaction of the account has it. What is not there, erased
     * before, or another account's is NOT_FOUND; so a repeat after a lost answer
     * may be NOT_FOUND too.
     * Its request stays, and publishing that again gives the first answer again:
     * the interaction does not come back. The last interaction of a request
     * erases the request.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.reflexio.v1.DeleteInteractionResponse> deleteInteraction(
        com.reflexio.v1.DeleteInteractionRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteInteractionMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Erases one request with all its interactions. Its request_id stays taken:
     * publishing it again is ALREADY_EXISTS, whatever the body.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.reflexio.v1.DeleteRequestResponse> deleteRequest(
        com.reflexio.v1.DeleteRequestRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteRequestMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Erases every request of a user's thread that was stored before the call.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.reflexio.v1.DeleteRequestGroupResponse> deleteRequestGroup(
        com.reflexio.v1.DeleteRequestGroupRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteRequestGroupMethod(), getCallOptions()), request);
    }

    /**
     * <pre>
     * Erases everything of a user that was stored before the call, and the user.
     * Much is erased step by step: a call that ends early, as at its deadline,
     * has erased a part, and another goes on from there.
     * </pre>
     */
    public com.google.common.util.concurrent.ListenableFuture<com.reflexio.v1.DeleteUserResponse> deleteUser(
        com.reflexio.v1.DeleteUserRequest request) {
      return io.grpc.stub.ClientCalls.futureUnaryCall(
          getChannel().newCall(getDeleteUserMethod(), getCallOptions()), request);
    }
  }

  private static final int METHODID_PUBLISH_INTERACTIONS = 0;
  private static final int METHODID_SEARCH_INTERACTIONS = 1;
  private static final int METHODID_GET_INTERACTIONS = 2;
  private static final int METHODID_GET_REQUESTS = 3;
  private static final int METHODID_GET_IMAGE = 4;
  private static final int METHODID_DELETE_INTERACTION = 5;
  private static final int METHODID_DELETE_REQUEST = 6;
  private static final int METHODID_DELETE_REQUEST_GROUP = 7;
  private static final int METHODID_DELETE_USER = 8;
  private static final int METHODID_PUBLISH_INTERACTION_STREAM = 9;

  private static final class MethodHandlers<Req, Resp> implements
      io.grpc.stub.ServerCalls.UnaryMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ServerStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.ClientStreamingMethod<Req, Resp>,
      io.grpc.stub.ServerCalls.BidiStreamingMethod<Req, Resp> {
    private final AsyncService serviceImpl;
    private final int methodId;

    MethodHandlers(AsyncService serviceImpl, int methodId) {
      this.serviceImpl = serviceImpl;
      this.methodId = methodId;
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public void invoke(Req request, io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_PUBLISH_INTERACTIONS:
          serviceImpl.publishInteractions((com.reflexio.v1.PublishInteractionsRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.PublishInteractionsResponse>) responseObserver);
          break;
        case METHODID_SEARCH_INTERACTIONS:
          serviceImpl.searchInteractions((com.reflexio.v1.SearchInteractionsRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.SearchInteractionsResponse>) responseObserver);
          break;
        case METHODID_GET_INTERACTIONS:
          serviceImpl.getInteractions((com.reflexio.v1.GetInteractionsRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.GetInteractionsResponse>) responseObserver);
          break;
        case METHODID_GET_REQUESTS:
          serviceImpl.getRequests((com.reflexio.v1.GetRequestsRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.GetRequestsResponse>) responseObserver);
          break;
        case METHODID_GET_IMAGE:
          serviceImpl.getImage((com.reflexio.v1.GetImageRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.GetImageResponse>) responseObserver);
          break;
        case METHODID_DELETE_INTERACTION:
          serviceImpl.deleteInteraction((com.reflexio.v1.DeleteInteractionRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteInteractionResponse>) responseObserver);
          break;
        case METHODID_DELETE_REQUEST:
          serviceImpl.deleteRequest((com.reflexio.v1.DeleteRequestRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteRequestResponse>) responseObserver);
          break;
        case METHODID_DELETE_REQUEST_GROUP:
          serviceImpl.deleteRequestGroup((com.reflexio.v1.DeleteRequestGroupRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteRequestGroupResponse>) responseObserver);
          break;
        case METHODID_DELETE_USER:
          serviceImpl.deleteUser((com.reflexio.v1.DeleteUserRequest) request,
              (io.grpc.stub.StreamObserver<com.reflexio.v1.DeleteUserResponse>) responseObserver);
          break;
        default:
          throw new AssertionError();
      }
    }

    @java.lang.Override
    @java.lang.SuppressWarnings("unchecked")
    public io.grpc.stub.StreamObserver<Req> invoke(
        io.grpc.stub.StreamObserver<Resp> responseObserver) {
      switch (methodId) {
        case METHODID_PUBLISH_INTERACTION_STREAM:
          return (io.grpc.stub.StreamObserver<Req>) serviceImpl.publishInteractionStream(
              (io.grpc.stub.StreamObserver<com.reflexio.v1.PublishInteractionStreamResponse>) responseObserver);
        default:
          throw new AssertionError();
      }
    }
  }

  public static final io.grpc.ServerServiceDefinition bindService(AsyncService service) {
    return io.grpc.ServerServiceDefinition.builder(getServiceDescriptor())
        .addMethod(
          getPublishInteractionsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.reflexio.v1.PublishInteractionsRequest,
              com.reflexio.v1.PublishInteractionsResponse>(
                service, METHODID_PUBLISH_INTERACTIONS)))
        .addMethod(
          getPublishInteractionStreamMethod(),
          io.grpc.stub.ServerCalls.asyncClientStreamingCall(
            new MethodHandlers<
              com.reflexio.v1.PublishInteractionStreamRequest,
              com.reflexio.v1.PublishInteractionStreamResponse>(
                service, METHODID_PUBLISH_INTERACTION_STREAM)))
        .addMethod(
          getSearchInteractionsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.reflexio.v1.SearchInteractionsRequest,
              com.reflexio.v1.SearchInteractionsResponse>(
                service, METHODID_SEARCH_INTERACTIONS)))
        .addMethod(
          getGetInteractionsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.reflexio.v1.GetInteractionsRequest,
              com.reflexio.v1.GetInteractionsResponse>(
                service, METHODID_GET_INTERACTIONS)))
        .addMethod(
          getGetRequestsMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.reflexio.v1.GetRequestsRequest,
              com.reflexio.v1.GetRequestsResponse>(
                service, METHODID_GET_REQUESTS)))
        .addMethod(
          getGetImageMethod(),
          io.grpc.stub.ServerCalls.asyncServerStreamingCall(
            new MethodHandlers<
              com.reflexio.v1.GetImageRequest,
              com.reflexio.v1.GetImageResponse>(
                service, METHODID_GET_IMAGE)))
        .addMethod(
          getDeleteInteractionMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.reflexio.v1.DeleteInteractionRequest,
              com.reflexio.v1.DeleteInteractionResponse>(
                service, METHODID_DELETE_INTERACTION)))
        .addMethod(
          getDeleteRequestMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.reflexio.v1.DeleteRequestRequest,
              com.reflexio.v1.DeleteRequestResponse>(
                service, METHODID_DELETE_REQUEST)))
        .addMethod(
          getDeleteRequestGroupMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.reflexio.v1.DeleteRequestGroupRequest,
              com.reflexio.v1.DeleteRequestGroupResponse>(
                service, METHODID_DELETE_REQUEST_GROUP)))
        .addMethod(
          getDeleteUserMethod(),
          io.grpc.stub.ServerCalls.asyncUnaryCall(
            new MethodHandlers<
              com.reflexio.v1.DeleteUserRequest,
              com.reflexio.v1.DeleteUserResponse>(
                service, METHODID_DELETE_USER)))
        .build();
  }

  private static abstract class InteractionServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoFileDescriptorSupplier, io.grpc.protobuf.ProtoServiceDescriptorSupplier {
    InteractionServiceBaseDescriptorSupplier() {}

    @java.lang.Override
    public com.google.protobuf.Descriptors.FileDescriptor getFileDescriptor() {
      return com.reflexio.v1.InteractionServiceOuterClass.getDescriptor();
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.ServiceDescriptor getServiceDescriptor() {
      return getFileDescriptor().findServiceByName("InteractionService");
    }
  }

  private static final class InteractionServiceFileDescriptorSupplier
      extends InteractionServiceBaseDescriptorSupplier {
    InteractionServiceFileDescriptorSupplier() {}
  }

  private static final class InteractionServiceMethodDescriptorSupplier
      extends InteractionServiceBaseDescriptorSupplier
      implements io.grpc.protobuf.ProtoMethodDescriptorSupplier {
    private final java.lang.String methodName;

    InteractionServiceMethodDescriptorSupplier(java.lang.String methodName) {
      this.methodName = methodName;
    }

    @java.lang.Override
    public com.google.protobuf.Descriptors.MethodDescriptor getMethodDescriptor() {
      return getServiceDescriptor().findMethodByName(methodName);
    }
  }

  private static volatile io.grpc.ServiceDescriptor serviceDescriptor;

  public static io.grpc.ServiceDescriptor getServiceDescriptor() {
    io.grpc.ServiceDescriptor result = serviceDescriptor;
    if (result == null) {
      synchronized (InteractionServiceGrpc.class) {
        result = serviceDescriptor;
        if (result == null) {
          serviceDescriptor = result = io.grpc.ServiceDescriptor.newBuilder(SERVICE_NAME)
              .setSchemaDescriptor(new InteractionServiceFileDescriptorSupplier())
              .addMethod(getPublishInteractionsMethod())
              .addMethod(getPublishInteractionStreamMethod())
              .addMethod(getSearchInteractionsMethod())
              .addMethod(getGetInteractionsMethod())
              .addMethod(getGetRequestsMethod())
              .addMethod(getGetImageMethod())
              .addMethod(getDeleteInteractionMethod())
              .addMethod(getDeleteRequestMethod())
              .addMethod(getDeleteRequestGroupMethod())
              .addMethod(getDeleteUserMethod())
              .build();
        }
      }
    }
    return result;
  }
}
