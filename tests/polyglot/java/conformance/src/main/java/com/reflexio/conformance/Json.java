package com.reflexio.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.util.concurrent.Callable;

/** Messages and failed calls in JSON. */
final class Json {
  private static final JsonFormat.Printer PRINTER =
      JsonFormat.printer().preservingProtoFieldNames().alwaysPrintFieldsWithNoPresence();

  private Json() {}

  @SuppressWarnings("unchecked")
  static <M extends Message> M message(JsonElement given, M.Builder builder) throws InvalidProtocolBufferException {
    JsonFormat.parser().merge(given.toString(), builder);
    return (M) builder.build();
  }

  /** A message with all its fields under their names in the contract. */
  static JsonElement of(Message message) throws InvalidProtocolBufferException {
    return JsonParser.parseString(PRINTER.print(message));
  }

  static JsonArray array(Iterable<?> items) {
    var array = new JsonArray();
    for (var item : items) {
      array.add(item instanceof Number number ? new JsonPrimitive(number) : new JsonPrimitive((String) item));
    }
    return array;
  }

  /** How a call failed, its details in their own types. */
  static JsonObject failure(Callable<?> call) throws Exception {
    try {
      call.call();
    } catch (io.grpc.StatusRuntimeException | io.grpc.StatusException error) {
      return failureOf(error);
    }
    throw new IllegalStateException("the call succeeded");
  }

  static JsonObject failureOf(Throwable error) throws InvalidProtocolBufferException {
    var status = StatusProto.fromThrowable(error);
    var info = ErrorInfo.getDefaultInstance();
    var violations = new JsonArray();
    JsonElement retryAfter = JsonNull.INSTANCE;
    for (var detail : status.getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        info = detail.unpack(ErrorInfo.class);
      } else if (detail.is(BadRequest.class)) {
        for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
          var one = new JsonObject();
          one.addProperty("field", violation.getField());
          one.addProperty("description", violation.getDescription());
          violations.add(one);
        }
      } else if (detail.is(RetryInfo.class)) {
        var delay = detail.unpack(RetryInfo.class).getRetryDelay();
        retryAfter = new JsonPrimitive(delay.getSeconds() + delay.getNanos() / 1e9);
      }
    }
    var metadata = new JsonObject();
    info.getMetadataMap().forEach(metadata::addProperty);
    var report = new JsonObject();
    report.addProperty("code", Status.fromThrowable(error).getCode().name());
    report.addProperty("message", status.getMessage());
    report.addProperty("reason", info.getReason());
    report.addProperty("domain", info.getDomain());
    report.add("metadata", metadata);
    report.add("violations", violations);
    report.add("retry_after_seconds", retryAfter);
    return report;
  }
}
