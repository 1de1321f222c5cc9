// Command bulk imports a chat log from standard input, a line for each turn:
// user, role and text, with tabs between them.
package main

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"log"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/reflexio/reflexio/gen/go/bulk"
	reflexio "github.com/reflexio/reflexio/gen/go/reflexio/v1"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	conn, err := grpc.NewClient(os.Getenv("REFLEXIO_ADDRESS"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+os.Getenv("REFLEXIO_API_KEY"))
	result, err := bulk.Publish(ctx, reflexio.NewInteractionServiceClient(conn), turns(), &bulk.Options{
		OnProgress: func(soFar bulk.Result) {
			fmt.Println("settled", soFar.Requests.Stored+soFar.Requests.Duplicate+soFar.Requests.Rejected)
		},
		OnRejection: func(one bulk.Rejection) {
			fmt.Printf("rejected line %d: %s: %s\n", one.Index+1, one.Reason, one.Message)
		},
	})
	fmt.Printf("%d stored, %d duplicate, %d rejected\n", result.Requests.Stored, result.Requests.Duplicate, result.Requests.Rejected)
	return err
}

// turns reads the log. The number of its line names a turn, so that the import
// can be started again.
func turns() iter.Seq[*reflexio.PublishInteractionsRequest] {
	return func(yield func(*reflexio.PublishInteractionsRequest) bool) {
		lines := bufio.NewScanner(os.Stdin)
		for number := 1; lines.Scan(); number++ {
			user, turn, _ := strings.Cut(lines.Text(), "\t")
			role, text, _ := strings.Cut(turn, "\t")
			request := &reflexio.PublishInteractionsRequest{
				UserId:       user,
				RequestId:    fmt.Sprintf("chat-log_%d", number),
				Source:       "chat_log",
				Interactions: []*reflexio.InteractionData{{Role: role, Content: text}},
			}
			if !yield(request) {
				return
			}
		}
	}
}
