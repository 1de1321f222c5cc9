import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport } from "@connectrpc/connect-node";
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerHttp2Session } from "node:http2";
import type { AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import {
  BulkInterruptedError,
  type BulkOptions,
  type BulkResult,
  InteractionService,
  publishMany,
  type PublishInteractionsRequest,
  PublishInteractionsRequestSchema,
  type PublishInteractionStreamResponse,
  PublishInteractionStreamResponseSchema,
  type Rejection,
  RetryInfoSchema,
} from "reflexio";

/** Keeps requests as Reflexio does, and fails as each test wants. */
class ScriptedServer {
  readonly stored: string[] = [];
  /** How many messages each stream carried. */
  readonly streams: number[] = [];
  /** How many requests it takes in a message; 0: one, and others are empty messages to it. */
  perMessage = 0;
  /** Called after each message; what it throws ends the stream, true ends it with a verdict. */
  handle: (stream: number, message: number, request: PublishInteractionsRequest) => boolean | void = () => {};
  /** May change the answer. */
  verdict: (stream: number, answer: PublishInteractionStreamResponse) => void = () => {};

  async start(context: TestContext): Promise<Client<typeof InteractionService>> {
    const server = createServer(
      connectNodeAdapter({
        routes: (router) => {
          router.rpc(InteractionService.method.publishInteractionStream, async (messages) => {
            const number = this.streams.push(0) - 1;
            const answer = create(PublishInteractionStreamResponseSchema, { requests: {}, interactions: {} });
            let index = -1;
            reading: for await (const { request, requests } of messages) {
              this.streams[number]!++;
              const empty = create(PublishInteractionsRequestSchema);
              for (const one of request ? [request] : this.perMessage ? requests : [empty]) {
                this.#take(one, ++index, answer);
                if (this.handle(number, index, one)) {
                  break reading;
                }
              }
            }
            answer.requestsPerMessage = this.perMessage;
            this.verdict(number, answer);
            return answer;
          });
        },
      }),
    );
    const sessions = new Set<ServerHttp2Session>();
    server.on("session", (session) => sessions.add(session));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    context.after(() => {
      sessions.forEach((session) => session.destroy());
      server.close();
    });
    const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    return createClient(InteractionService, createGrpcTransport({ baseUrl }));
  }

  #take(request: PublishInteractionsRequest, index: number, answer: PublishInteractionStreamResponse): void {
    const { requestId } = request;
    let became: "stored" | "duplicate" | "rejected" = "stored";
    if (request.userId === "") {
      became = "rejected";
      const reason = { reason: "INVALID_FIELD", field: "user_id", message: "is required" };
      answer.rejections.push({ $typeName: "reflexio.v1.PublishRejection", index, requestId, ...reason });
    } else if (this.stored.includes(requestId)) {
      became = "duplicate";
    } else {
      this.stored.push(requestId);
    }
    answer.requests![became]++;
    answer.interactions![became] += request.interactions.length;
  }

  async publish(
    context: TestContext,
    requests: Iterable<PublishInteractionsRequest> | AsyncIterable<PublishInteractionsRequest>,
    options: BulkOptions = {},
  ): Promise<BulkResult> {
    return publishMany(await this.start(context), requests, options);
  }
}

function request(
  requestId: string,
  more: MessageInitShape<typeof PublishInteractionsRequestSchema> = {},
): PublishInteractionsRequest {
  const interactions = [{ content: "a" }, { content: "b" }];
  return create(PublishInteractionsRequestSchema, { userId: "u", requestId, interactions, ...more });
}

function* requests(count: number): Generator<PublishInteractionsRequest> {
  for (let i = 0; i < count; i++) {
    yield request(`r${i}`);
  }
}

const counts = (stored: number, duplicate: number, rejected: number) => ({ stored, duplicate, rejected });

test("messages are packed once the server said so", async (context) => {
  const server = new ScriptedServer();
  server.perMessage = 100;
  const result = await server.publish(context, requests(2550));
  assert.deepEqual(server.streams, [1000, 10, 6]);
  assert.deepEqual(result.requests, counts(2550, 0, 0));
  assert.deepEqual(server.stored, Array.from({ length: 2550 }, (_, i) => `r${i}`));
});

test("messages are bounded in bytes", async (context) => {
  const server = new ScriptedServer();
  server.perMessage = 100;
  const large = Array.from({ length: 5 }, (_, i) =>
    request(`large ${i}`, { interactions: [{ content: "x".repeat(30 * 1024) }] }),
  );
  await server.publish(context, [...requests(1000), ...large]);
  assert.deepEqual(server.streams, [1000, 3]);
});

test("a server that takes fewer in another's place costs nothing", async (context) => {
  for (const fewer of [0, 50]) {
    const server = new ScriptedServer();
    server.perMessage = 100;
    server.handle = (stream) => {
      if (stream === 1) {
        server.perMessage = fewer;
      }
    };
    server.verdict = (stream, answer) => {
      if (fewer && stream === 1) {
        const reason = { requestId: "", reason: "LIMIT_EXCEEDED", field: "requests", message: "" };
        answer.requests = { ...answer.requests!, stored: 0, rejected: 5 };
        answer.rejections = [0, 1, 2, 3, 4].map((index) => ({
          $typeName: "reflexio.v1.PublishRejection",
          index,
          ...reason,
        }));
      }
    };
    const { requests: settled } = await server.publish(context, requests(1500));
    assert.equal(settled.rejected, 0);
    assert.equal(settled.stored + settled.duplicate, 1500);
    assert.equal(server.stored.length, 1500);
  }
});

test("segments are bounded in requests", async (context) => {
  const server = new ScriptedServer();
  const result = await server.publish(context, requests(2500));
  assert.deepEqual(server.streams, [1000, 1000, 500]);
  assert.deepEqual(result.requests, counts(2500, 0, 0));
  assert.deepEqual(result.interactions, counts(5000, 0, 0));
});

test("segments are bounded in bytes", async (context) => {
  const server = new ScriptedServer();
  const large = [0, 1, 2, 3, 4].map((n) => request(`${n}`, { interactions: [{ image: new Uint8Array(3 << 20) }] }));
  await server.publish(context, large);
  assert.deepEqual(server.streams, [3, 2]);
});

test("no request is taken before the segment before is settled", async (context) => {
  const server = new ScriptedServer();
  let taken = 0;
  async function* watched() {
    for (const one of requests(3000)) {
      assert.ok(taken - server.stored.length < 1000, `${taken - server.stored.length + 1} requests in memory`);
      taken++;
      yield one;
    }
  }
  assert.equal((await server.publish(context, watched())).requests.stored, 3000);
});

test("a broken stream is sent again", async (context) => {
  const server = new ScriptedServer();
  server.handle = (stream, message) => {
    if (stream < 2 && message === 600) {
      throw new ConnectError("gone", Code.Unavailable);
    }
  };
  const result = await server.publish(context, requests(1500));
  assert.deepEqual(result.requests, counts(899, 601, 0));
  assert.equal(server.stored.length, 1500);
});

test("the server is waited for as long as it says", async (context) => {
  const server = new ScriptedServer();
  server.handle = (stream) => {
    if (stream === 0) {
      const value = { retryDelay: { seconds: 0n, nanos: 300_000_000 } };
      throw new ConnectError("busy", Code.ResourceExhausted, undefined, [{ desc: RetryInfoSchema, value }]);
    }
  };
  const started = performance.now();
  const result = await server.publish(context, requests(10));
  assert.ok(performance.now() - started >= 299, "it came back too early");
  assert.deepEqual(result.requests, counts(9, 1, 0));
});

test("rejections are listed with their place in the whole", async (context) => {
  const all = [...requests(2100)];
  all[3]!.userId = all[2050]!.userId = "";
  const result = await new ScriptedServer().publish(context, all);
  assert.deepEqual(result.requests, counts(2098, 0, 2));
  assert.deepEqual(result.interactions, counts(4196, 0, 4));
  const reason = { reason: "INVALID_FIELD", field: "user_id", message: "is required" };
  assert.deepEqual(result.rejections, [
    { index: 3, requestId: "r3", ...reason },
    { index: 2050, requestId: "r2050", ...reason },
  ]);
});

test("what a verdict does not list is not taken for stored", async (context) => {
  const all = [...requests(10)];
  all[2]!.userId = all[7]!.userId = "";
  const server = new ScriptedServer();
  server.verdict = (stream, answer) => {
    if (stream === 0) {
      answer.rejections.pop();
    }
  };
  const result = await server.publish(context, all);
  assert.deepEqual(server.streams, [10, 9]);
  assert.deepEqual(result.requests, counts(0, 8, 2));
});

test("a verdict on a prefix is followed by the rest", async (context) => {
  const server = new ScriptedServer();
  server.handle = (stream, message) => stream === 0 && message === 399;
  const result = await server.publish(context, requests(1000));
  assert.deepEqual(server.streams, [400, 600]);
  assert.deepEqual(result.requests, counts(1000, 0, 0));
});

test("a verdict that contradicts itself is not believed", async (context) => {
  const server = new ScriptedServer();
  server.verdict = (stream, answer) => {
    answer.requests!.stored += stream === 0 ? 1 : 0;
  };
  const result = await server.publish(context, requests(4));
  assert.deepEqual(result.requests, counts(0, 4, 0));
});

test("a message that breaks every stream is found and rejected", async (context) => {
  const server = new ScriptedServer();
  server.handle = (_stream, _message, { requestId }) => {
    if (requestId === "r77") {
      throw new ConnectError("larger than max", Code.ResourceExhausted);
    }
  };
  const told: Rejection[] = [];
  const result = await server.publish(context, requests(100), { onRejection: (rejection) => told.push(rejection) });
  const expected = { index: 77, requestId: "r77", reason: "RESOURCE_EXHAUSTED", field: "", message: "larger than max" };
  assert.deepEqual(result.rejections, [expected]);
  assert.deepEqual(told, [expected]);
  assert.equal(result.requests.stored + result.requests.duplicate, 99);
});

test("requests without an id get one in a copy", async (context) => {
  const server = new ScriptedServer();
  const original = request("", { source: "web_shop" });
  await server.publish(context, [original, request("")]);
  assert.equal(original.requestId, "");
  assert.match(server.stored[0]!, /^web-shop_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}$/);
  assert.match(server.stored[1]!, /^request_/);
});

test("a refused key stops at once with the result so far", async (context) => {
  const server = new ScriptedServer();
  server.handle = (stream) => {
    if (stream === 1) {
      throw new ConnectError("revoked", Code.Unauthenticated);
    }
  };
  await assert.rejects(server.publish(context, requests(2000)), (error) => {
    assert.ok(error instanceof BulkInterruptedError);
    assert.equal(ConnectError.from(error.cause).code, Code.Unauthenticated);
    assert.deepEqual(error.result.requests, counts(1000, 0, 0));
    return true;
  });
});

test("patience ends", async (context) => {
  const server = new ScriptedServer();
  server.handle = () => {
    throw new ConnectError("gone", Code.Unavailable);
  };
  await assert.rejects(server.publish(context, requests(1), { patienceMs: 500 }), BulkInterruptedError);
  assert.ok(server.streams.length >= 2, "it was not tried again");
});

test("an aborted signal stops it", async (context) => {
  const server = new ScriptedServer();
  const abort = new AbortController();
  server.handle = () => {
    abort.abort();
    throw new ConnectError("gone", Code.Unavailable);
  };
  await assert.rejects(server.publish(context, requests(1), { signal: abort.signal }), BulkInterruptedError);
});
