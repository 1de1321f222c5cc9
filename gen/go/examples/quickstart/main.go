// Command quickstart is what README.md shows, in one program.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // watches it, where a service config says so
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	reflexio "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Getenv("REFLEXIO_ADDRESS"), os.Getenv("REFLEXIO_EMAIL"), os.Getenv("REFLEXIO_PASSWORD")); err != nil {
		log.Fatal(err)
	}
}

func run(address, email, password string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	login, err := reflexio.NewAuthServiceClient(conn).Login(ctx, &reflexio.LoginRequest{Email: email, Password: password})
	if err != nil {
		return err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+login.GetApiKey())
	me, err := reflexio.NewAuthServiceClient(conn).WhoAmI(ctx, &reflexio.WhoAmIRequest{})
	if err != nil {
		return err
	}
	fmt.Println("logged in as", me.GetAccount().GetEmail())

	client := reflexio.NewInteractionServiceClient(conn)
	run := fmt.Sprintf("%x", time.Now().UnixNano()) // ids are yours to make, and are never used for something else
	request := &reflexio.PublishInteractionsRequest{
		UserId:       "ada",
		RequestId:    "parcel-4711_" + run,
		RequestGroup: "parcel-4711",
		Source:       "support_chat",
		WaitUntil:    reflexio.WaitUntil_WAIT_UNTIL_SEARCHABLE,
		Interactions: []*reflexio.InteractionData{
			{Role: "User", Content: "My parcel never arrived.", CreatedAt: timestamppb.Now()},
			{Role: "Agent", Content: "I am sorry!", CreatedAt: timestamppb.Now()},
		},
	}
	published, err := client.PublishInteractions(ctx, request)
	if err != nil {
		return err
	}
	fmt.Println("published", len(published.GetInteractionIds()), "interactions")
	again, err := client.PublishInteractions(ctx, request) // as after a lost answer: the very same message
	if err != nil {
		return err
	}
	fmt.Println("sent again, and stored before:", again.GetReplayed())

	stream, err := client.PublishInteractionStream(ctx)
	if err != nil {
		return err
	}
	for i := range 3 {
		request := &reflexio.PublishInteractionsRequest{
			UserId:       "ada",
			RequestId:    fmt.Sprintf("clicks-%s_%d", run, i),
			Interactions: []*reflexio.InteractionData{{UserAction: reflexio.UserAction_USER_ACTION_CLICK}},
		}
		if err := stream.Send(&reflexio.PublishInteractionStreamRequest{Request: request}); err != nil {
			break // CloseAndRecv says why
		}
	}
	verdict, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	counts := verdict.GetRequests()
	fmt.Printf("streamed: %d stored, %d duplicate, %d rejected\n",
		counts.GetStored(), counts.GetDuplicate(), counts.GetRejected())

	user := "ada"
	found, err := client.SearchInteractions(ctx, &reflexio.SearchInteractionsRequest{
		UserId: &user, // nil: the whole account
		Query:  "lost delivery",
		TopK:   1,
		Filter: &reflexio.InteractionFilter{Roles: []string{"User"}},
	})
	if err != nil {
		return err
	}
	for _, hit := range found.GetHits() {
		fmt.Printf("%.2f %s: %s\n", hit.GetScore(), hit.GetInteraction().GetRole(), hit.GetInteraction().GetContent())
	}

	erased, err := client.DeleteUser(ctx, &reflexio.DeleteUserRequest{UserId: "ada"})
	if err != nil {
		return err
	}
	gone := erased.GetErased()
	fmt.Printf("erased: %d requests, %d interactions\n", gone.GetRequests(), gone.GetInteractions())

	_, err = client.PublishInteractions(ctx, &reflexio.PublishInteractionsRequest{})
	failed := status.Convert(err)
	fmt.Println("refused:", failed.Code(), failed.Message())
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Println("reason:", detail.GetReason())
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				fmt.Printf("field: %s: %s\n", violation.GetField(), violation.GetDescription())
			}
		case *errdetails.RetryInfo:
			fmt.Println("try again after", detail.GetRetryDelay().AsDuration())
		}
	}

	several, err := grpc.NewClient("dns:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(
			`{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}`))
	if err != nil {
		return err
	}
	defer several.Close()
	me, err = reflexio.NewAuthServiceClient(several).WhoAmI(ctx, &reflexio.WhoAmIRequest{})
	if err != nil {
		return err
	}
	fmt.Println("one that serves knows", me.GetAccount().GetEmail())
	return nil
}
