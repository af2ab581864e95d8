package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	activationv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/activation/v1"
	adminv1 "github.com/mekong-cdp/mekong/proto/gen/go/mekong/admin/v1"
	"github.com/mekong-cdp/mekong/services/internal/platform/errs"
	"github.com/mekong-cdp/mekong/services/internal/platform/rpc"
)

// remote is how the commands that manage a running system reach it.
type remote struct {
	Address string `help:"gRPC address of the system." default:"127.0.0.1:8081" env:"MEKONG_URL" placeholder:"HOST:PORT"`
	Token   string `help:"API token." env:"MEKONG_TOKEN" required:"" placeholder:"TOKEN"`
	TLS     bool   `help:"Connect with TLS."`
}

// callTimeout bounds one command.
const callTimeout = 30 * time.Second

// call runs fn with a connection and a context that carries the token.
func (r remote) call(s *shell, fn func(ctx context.Context, conn *grpc.ClientConn) error) error {
	conn, err := rpc.Dial(r.Address, rpc.DefaultConfig(), r.TLS, "")
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	err = fn(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+r.Token), conn)
	switch kind := errs.KindOf(err); {
	case err == nil:
		return nil
	case kind == errs.Unavailable:
		return errs.New(kind, "no_answer", fmt.Sprintf(
			"No good answer from %s; is the system running, and is that its gRPC address (--address, MEKONG_URL)? It said: %s", r.Address, errs.MessageOf(err)))
	case kind == errs.Internal:
		return err
	default:
		// The sentence is the system's own; what gRPC wraps around it only repeats it.
		return errs.New(kind, errs.CodeOf(err), errs.MessageOf(err))
	}
}

func (r remote) admin(s *shell, fn func(ctx context.Context, admin adminv1.AdminServiceClient) error) error {
	return r.call(s, func(ctx context.Context, conn *grpc.ClientConn) error {
		return fn(ctx, adminv1.NewAdminServiceClient(conn))
	})
}

// table prints aligned columns.
func (s *shell) table(header string, rows [][]string) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

type workspaceCmd struct {
	Create workspaceCreateCmd `cmd:"" help:"Create a workspace."`
	List   workspaceListCmd   `cmd:"" help:"List the workspaces that the token may see."`
}

type workspaceCreateCmd struct {
	remote
	Slug     string `arg:"" help:"Short name: a-z, 0-9 and -."`
	Name     string `help:"Name for people; the slug when not given."`
	TimeZone string `help:"IANA time zone." placeholder:"ZONE"`
	Currency string `help:"ISO 4217 code." placeholder:"CODE"`
}

func (workspaceCreateCmd) Help() string {
	return "Example: mekong workspace create my-shop --name 'My shop' --token mk_…"
}

func (c workspaceCreateCmd) Run(s *shell) error {
	name := c.Name
	if name == "" {
		name = c.Slug
	}
	return c.admin(s, func(ctx context.Context, admin adminv1.AdminServiceClient) error {
		resp, err := admin.CreateWorkspace(ctx, &adminv1.CreateWorkspaceRequest{
			Slug: c.Slug, Name: name, TimeZone: c.TimeZone, Currency: c.Currency,
		})
		if err != nil {
			return err
		}
		return s.table("WORKSPACE_ID SLUG", [][]string{{resp.GetWorkspace().GetWorkspaceId(), resp.GetWorkspace().GetSlug()}})
	})
}

type workspaceListCmd struct{ remote }

func (workspaceListCmd) Help() string { return "Example: mekong workspace list --token mk_…" }

func (c workspaceListCmd) Run(s *shell) error {
	return c.admin(s, func(ctx context.Context, admin adminv1.AdminServiceClient) error {
		resp, err := admin.ListWorkspaces(ctx, &adminv1.ListWorkspacesRequest{})
		if err != nil {
			return err
		}
		rows := make([][]string, 0, len(resp.GetWorkspaces()))
		for _, w := range resp.GetWorkspaces() {
			rows = append(rows, []string{w.GetWorkspaceId(), w.GetSlug(), w.GetTimeZone(), w.GetCurrency()})
		}
		return s.table("WORKSPACE_ID SLUG TIME_ZONE CURRENCY", rows)
	})
}

// inWorkspace names the workspace of a command by id or slug.
type inWorkspace struct {
	remote
	Workspace string `help:"Workspace, by id or slug." required:"" short:"w" placeholder:"ID"`
}

// id turns a slug into the id.
func (w inWorkspace) id(ctx context.Context, admin adminv1.AdminServiceClient) (string, error) {
	resp, err := admin.GetWorkspace(ctx, &adminv1.GetWorkspaceRequest{WorkspaceId: w.Workspace})
	return resp.GetWorkspace().GetWorkspaceId(), err
}

type sourceCmd struct {
	Create sourceCreateCmd `cmd:"" help:"Create a source with its first write key."`
	List   sourceListCmd   `cmd:"" help:"List the sources of a workspace with their keys."`
	AddKey sourceAddKeyCmd `cmd:"" name:"add-key" help:"Add a write key; with --rotate-after the older ones stop later."`
}

type sourceCreateCmd struct {
	inWorkspace
	Name    string   `arg:"" help:"Name of the source."`
	Type    string   `help:"web, app, server or webhook." default:"web" enum:"web,app,server,webhook"`
	Origins []string `help:"Origins that browsers may send from; none allows all." placeholder:"ORIGIN"`
}

func (sourceCreateCmd) Help() string {
	return "Example: mekong source create 'Online shop' -w my-shop --type web --origins https://shop.example --token mk_…"
}

func (c sourceCreateCmd) Run(s *shell) error {
	return c.admin(s, func(ctx context.Context, admin adminv1.AdminServiceClient) error {
		id, err := c.id(ctx, admin)
		if err != nil {
			return err
		}
		resp, err := admin.CreateSource(ctx, &adminv1.CreateSourceRequest{WorkspaceId: id, Name: c.Name, Type: c.Type, Origins: c.Origins})
		if err != nil {
			return err
		}
		return s.printSources([]*adminv1.Source{resp.GetSource()})
	})
}

type sourceListCmd struct{ inWorkspace }

func (sourceListCmd) Help() string { return "Example: mekong source list -w my-shop --token mk_…" }

func (c sourceListCmd) Run(s *shell) error {
	return c.admin(s, func(ctx context.Context, admin adminv1.AdminServiceClient) error {
		id, err := c.id(ctx, admin)
		if err != nil {
			return err
		}
		resp, err := admin.ListSources(ctx, &adminv1.ListSourcesRequest{WorkspaceId: id})
		if err != nil {
			return err
		}
		return s.printSources(resp.GetSources())
	})
}

func (s *shell) printSources(sources []*adminv1.Source) error {
	var rows [][]string
	for _, source := range sources {
		for _, key := range source.GetWriteKeys() {
			until := "-"
			if key.GetExpiresAt() != nil {
				until = key.GetExpiresAt().AsTime().Format(time.RFC3339)
			}
			rows = append(rows, []string{source.GetSourceId(), source.GetName(), source.GetType(), fmt.Sprint(source.GetEnabled()), key.GetWriteKey(), until})
		}
	}
	return s.table("SOURCE_ID NAME TYPE ENABLED WRITE_KEY UNTIL", rows)
}

type sourceAddKeyCmd struct {
	inWorkspace
	Source      string        `arg:"" help:"Source id."`
	RotateAfter time.Duration `help:"When the older keys stop, for example 24h." placeholder:"DURATION"`
}

func (sourceAddKeyCmd) Help() string {
	return "Example: mekong source add-key 0198… -w my-shop --rotate-after 24h --token mk_…"
}

func (c sourceAddKeyCmd) Run(s *shell) error {
	return c.admin(s, func(ctx context.Context, admin adminv1.AdminServiceClient) error {
		id, err := c.id(ctx, admin)
		if err != nil {
			return err
		}
		req := &adminv1.CreateWriteKeyRequest{WorkspaceId: id, SourceId: c.Source}
		if c.RotateAfter > 0 {
			seconds := int64(c.RotateAfter.Seconds())
			req.RotateAfterS = &seconds
		}
		resp, err := admin.CreateWriteKey(ctx, req)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, resp.GetWriteKey().GetWriteKey())
		return err
	})
}

type destinationCmd struct {
	Create destinationCreateCmd `cmd:"" help:"Create a webhook destination."`
	List   destinationListCmd   `cmd:"" help:"List the destinations of a workspace."`
}

type destinationCreateCmd struct {
	inWorkspace
	Name   string `arg:"" help:"Name of the destination."`
	URL    string `help:"Address of the receiver." required:"" placeholder:"URL"`
	Filter string `help:"CEL that an event must satisfy." placeholder:"CEL"`
	Batch  int32  `help:"Events per request." default:"1"`
}

func (destinationCreateCmd) Help() string {
	return `Example: mekong destination create orders -w my-shop --url https://erp.example/hook --filter 'event.name == "Order Completed"' --token mk_…`
}

func (c destinationCreateCmd) Run(s *shell) error {
	return c.call(s, func(ctx context.Context, conn *grpc.ClientConn) error {
		id, err := c.id(ctx, adminv1.NewAdminServiceClient(conn))
		if err != nil {
			return err
		}
		resp, err := activationv1.NewDestinationServiceClient(conn).CreateDestination(ctx, &activationv1.CreateDestinationRequest{
			WorkspaceId: id, Name: c.Name, Enabled: true, Filter: c.Filter,
			Kind: &activationv1.CreateDestinationRequest_Webhook{Webhook: &activationv1.Webhook{Url: c.URL, BatchSize: c.Batch}},
		})
		if err != nil {
			return err
		}
		return s.table("DESTINATION_ID SIGNING_SECRET", [][]string{{resp.GetDestination().GetDestinationId(), resp.GetSigningSecret()}})
	})
}

type destinationListCmd struct{ inWorkspace }

func (destinationListCmd) Help() string {
	return "Example: mekong destination list -w my-shop --token mk_…"
}

func (c destinationListCmd) Run(s *shell) error {
	return c.call(s, func(ctx context.Context, conn *grpc.ClientConn) error {
		id, err := c.id(ctx, adminv1.NewAdminServiceClient(conn))
		if err != nil {
			return err
		}
		resp, err := activationv1.NewDestinationServiceClient(conn).ListDestinations(ctx, &activationv1.ListDestinationsRequest{WorkspaceId: id})
		if err != nil {
			return err
		}
		rows := make([][]string, 0, len(resp.GetDestinations()))
		for _, d := range resp.GetDestinations() {
			rows = append(rows, []string{d.GetDestinationId(), d.GetName(), fmt.Sprint(d.GetEnabled()), d.GetWebhook().GetUrl()})
		}
		return s.table("DESTINATION_ID NAME ENABLED URL", rows)
	})
}

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Create an API token."`
	List   tokenListCmd   `cmd:"" help:"List the tokens."`
	Revoke tokenRevokeCmd `cmd:"" help:"Revoke a token."`
}

type tokenCreateCmd struct {
	remote
	Name      string        `arg:"" help:"What the token is for."`
	Scopes    []string      `help:"What it may do." required:"" placeholder:"SCOPE"`
	Workspace string        `help:"Only for this workspace (id)." short:"w" placeholder:"ID"`
	Expires   time.Duration `help:"How long it holds; for ever when not given." placeholder:"DURATION"`
}

func (tokenCreateCmd) Help() string {
	return "Example: mekong token create ci --scopes sources:read,workspaces:read --expires 720h --token mk_…"
}

func (c tokenCreateCmd) Run(s *shell) error {
	return c.admin(s, func(ctx context.Context, admin adminv1.AdminServiceClient) error {
		req := &adminv1.CreateApiTokenRequest{Name: c.Name, Scopes: c.Scopes, WorkspaceId: c.Workspace}
		if c.Expires > 0 {
			req.ExpiresAt = timestamppb.New(time.Now().Add(c.Expires))
		}
		resp, err := admin.CreateApiToken(ctx, req)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(s.out, resp.GetSecret())
		return err
	})
}

type tokenListCmd struct{ remote }

func (tokenListCmd) Help() string { return "Example: mekong token list --token mk_…" }

func (c tokenListCmd) Run(s *shell) error {
	return c.admin(s, func(ctx context.Context, admin adminv1.AdminServiceClient) error {
		resp, err := admin.ListApiTokens(ctx, &adminv1.ListApiTokensRequest{})
		if err != nil {
			return err
		}
		rows := make([][]string, 0, len(resp.GetTokens()))
		for _, t := range resp.GetTokens() {
			rows = append(rows, []string{t.GetTokenId(), t.GetName(), strings.Join(t.GetScopes(), ","), t.GetWorkspaceId()})
		}
		return s.table("TOKEN_ID NAME SCOPES WORKSPACE_ID", rows)
	})
}

type tokenRevokeCmd struct {
	remote
	ID string `arg:"" help:"Token id."`
}

func (tokenRevokeCmd) Help() string { return "Example: mekong token revoke 0198… --token mk_…" }

func (c tokenRevokeCmd) Run(s *shell) error {
	return c.admin(s, func(ctx context.Context, admin adminv1.AdminServiceClient) error {
		_, err := admin.RevokeApiToken(ctx, &adminv1.RevokeApiTokenRequest{TokenId: c.ID})
		return err
	})
}
