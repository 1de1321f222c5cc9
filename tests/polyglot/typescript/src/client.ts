import {
  create,
  type DescMessage,
  fromJson,
  type JsonValue,
  type MessageInitShape,
  type MessageShape,
  toJson,
} from "@bufbuild/protobuf";
import { type Client as Stub, Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { setTimeout as sleep } from "node:timers/promises";
import {
  AuthService,
  BadRequestSchema,
  ErrorInfoSchema,
  type GetInteractionsRequestSchema,
  type Interaction,
  InteractionService,
  type LoginResponse,
  Order,
  type PublishInteractionsRequest,
  PublishInteractionsRequestSchema,
  type PublishInteractionStreamRequest,
  PublishInteractionStreamRequestSchema,
  PublishInteractionStreamResponseSchema,
  type PublishInteractionStreamResponse,
  RetryInfoSchema,
} from "reflexio";

export type Report = { [name: string]: unknown };

/** A transport, and the key that goes with each call. */
export class Client {
  readonly transport: Transport;
  readonly auth: Stub<typeof AuthService>;
  readonly interactions: Stub<typeof InteractionService>;
  key = "";

  constructor(readonly address: string) {
    const withKey: Interceptor = (next) => (request) => {
      if (!request.header.has("authorization") && this.key !== "") {
        request.header.set("authorization", `Bearer ${this.key}`);
      }
      return next(request);
    };
    this.transport = createGrpcTransport({
      baseUrl: `http://${address}`,
      interceptors: [withKey],
      defaultTimeoutMs: 60_000,
      nodeOptions: { maxSessionMemory: 64 }, // MB; with the default of 10 a large message would starve its own answer
    });
    this.auth = createClient(AuthService, this.transport);
    this.interactions = createClient(InteractionService, this.transport);
  }

  async logIn(email: string, password: string): Promise<LoginResponse> {
    const login = await this.auth.login({ email, password });
    this.key = login.apiKey;
    return login;
  }

  stream(requests: Iterable<PublishInteractionsRequest>): Promise<PublishInteractionStreamResponse> {
    async function* messages() {
      for (const request of requests) {
        yield streamed(request);
      }
    }
    return this.interactions.publishInteractionStream(messages());
  }

  async *pages(wanted: MessageInitShape<typeof GetInteractionsRequestSchema>): AsyncGenerator<Interaction[]> {
    for (let pageToken = ""; ; ) {
      const page = await this.interactions.getInteractions({ ...wanted, pageToken });
      yield page.interactions;
      if ((pageToken = page.nextPageToken) === "") {
        return;
      }
    }
  }

  async listed(wanted: MessageInitShape<typeof GetInteractionsRequestSchema>): Promise<Interaction[]> {
    const found: Interaction[] = [];
    for await (const page of this.pages({ ...wanted, order: Order.OLDEST_FIRST })) {
      found.push(...page);
    }
    return found;
  }

  /** How many interactions of the user are stored, once there are so many, or after 10 seconds. */
  async waitFor(userId: string, count: number): Promise<number> {
    let found = 0;
    for (let i = 0; i < 200 && (found = (await this.listed({ userId })).length) < count; i++) {
      await sleep(50);
    }
    return found;
  }

  /** A picture in its chunks. */
  async image(interactionId: string, headers?: Record<string, string>): Promise<Uint8Array[]> {
    const chunks: Uint8Array[] = [];
    for await (const { data } of this.interactions.getImage({ interactionId }, { headers })) {
      chunks.push(data);
    }
    return chunks;
  }
}

/** A stream that has sent these requests and stays open until it is closed. */
export class OpenStream {
  readonly verdict: Promise<PublishInteractionStreamResponse>;
  close!: () => void;

  constructor(client: Client, requests: PublishInteractionsRequest[], options: { timeoutMs?: number; signal?: AbortSignal }) {
    const closed = new Promise<void>((resolve) => (this.close = resolve));
    async function* messages() {
      yield* requests.map(streamed);
      await closed;
    }
    this.verdict = client.interactions.publishInteractionStream(messages(), options);
    this.verdict.catch(() => {}); // whoever awaits it sees the error
  }
}

function streamed(request: PublishInteractionsRequest): PublishInteractionStreamRequest {
  return create(PublishInteractionStreamRequestSchema, { request });
}

/** A request with one interaction, which says its request's id. */
export function say(userId: string, requestId: string): PublishInteractionsRequest {
  return create(PublishInteractionsRequestSchema, { userId, requestId, interactions: [{ content: requestId }] });
}

export function publishRequest(given: JsonValue): PublishInteractionsRequest {
  return fromJson(PublishInteractionsRequestSchema, given);
}

/** A message with all its fields under their names in the contract. */
export function asJson<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonValue {
  return toJson(schema, message, { alwaysEmitImplicit: true, useProtoFieldName: true });
}

export function verdictAsJson(verdict: PublishInteractionStreamResponse): JsonValue {
  return asJson(PublishInteractionStreamResponseSchema, verdict);
}

/** How a call failed, its details in their own types. */
export async function failure(call: Promise<unknown>): Promise<Report> {
  const error = await call.then(
    () => {
      throw new Error("the call succeeded");
    },
    (reason) => ConnectError.from(reason),
  );
  const [info] = error.findDetails(ErrorInfoSchema);
  const [bad] = error.findDetails(BadRequestSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  const delay = retry?.retryDelay;
  return {
    code: Code[error.code]!.replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase(),
    message: error.rawMessage,
    reason: info?.reason ?? "",
    domain: info?.domain ?? "",
    metadata: info?.metadata ?? {},
    violations: (bad?.fieldViolations ?? []).map(({ field, description }) => ({ field, description })),
    retry_after_seconds: delay ? Number(delay.seconds) + delay.nanos / 1e9 : null,
  };
}

