// What a user of the generated Go client would write. Run by ./scripts/clients, which sets the environment.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"

	tenantry "github.com/GIT_USER_ID/GIT_REPO_ID"
)

var url, tenant = os.Getenv("TENANTRY_URL"), os.Getenv("TENANTRY_TENANT")

// ensure ends the program where something is not so.
func ensure(holds bool, what string, values ...any) {
	if !holds {
		fmt.Fprintln(os.Stderr, "not so:", what, fmt.Sprintf("%+v", values))
		os.Exit(1)
	}
}

// done gives a call's answer, or ends the program with its error.
func done[T any](answer *T, _ *http.Response, err error) *T {
	ensure(err == nil, "the call succeeds", err)
	return answer
}

// problemOf gives the problem that a call was refused with.
func problemOf(err error, status int32) tenantry.Problem {
	var refusal *tenantry.GenericOpenAPIError
	ensure(errors.As(err, &refusal), "the server refuses", err)
	problem, is := refusal.Model().(tenantry.Problem)
	ensure(is, "the refusal is a problem", err)
	ensure(problem.Status == status, "the problem has the status", status, problem)
	ensure(problem.Title != "" && problem.Detail != "" && problem.RequestId != "", "the problem says what it is", problem)
	return problem
}

func users(ctx context.Context, api *tenantry.UsersAPIService) {
	var created []tenantry.User
	for _, name := range []string{"Ada", "Grace", "Jean"} {
		input := *tenantry.NewUserInput(name, strings.ToLower(name)+"@example.com")
		created = append(created, *done(api.CreateUser(ctx).UserInput(input).Execute()))
	}
	ada := created[0]
	ensure(ada.Id > 0 && ada.Name == "Ada" && ada.Email == "ada@example.com", "the user is as it was written", ada)
	ensure(time.Since(ada.CreatedAt).Abs() < 10*time.Minute, "the user is new", ada)

	first := done(api.ListUsers(ctx).Limit(2).Execute())
	ensure(reflect.DeepEqual(first.Items, created[:2]) && first.Next.Get() != nil, "the first page", first)
	second := done(api.ListUsers(ctx).Limit(2).After(first.GetNext()).Execute())
	ensure(reflect.DeepEqual(second.Items, created[2:]) && second.Next.Get() == nil, "the last page", second)

	ensure(reflect.DeepEqual(*done(api.GetUser(ctx, ada.Id).Execute()), ada), "the user can be read")
	input := *tenantry.NewUserInput("Ada Lovelace", ada.Email)
	updated := done(api.UpdateUser(ctx, ada.Id).UserInput(input).Execute())
	ensure(updated.Name == "Ada Lovelace" && !updated.UpdatedAt.Before(ada.UpdatedAt), "the user is changed", updated)
	ensure(reflect.DeepEqual(done(api.GetUser(ctx, ada.Id).Execute()), updated), "the change stays")

	taken := *tenantry.NewUserInput("Another", "grace@example.com")
	_, _, err := api.CreateUser(ctx).UserInput(taken).Execute()
	problem := problemOf(err, 409)
	ensure(problem.Code == "conflict" && len(problem.Errors) == 1, "the address is taken", problem)
	ensure(problem.Errors[0].GetPointer() == "/email", "the problem points at the address", problem)

	for _, user := range created {
		_, err := api.DeleteUser(ctx, user.Id).Execute()
		ensure(err == nil, "the user is deleted", err)
	}
	_, _, err = api.GetUser(ctx, ada.Id).Execute()
	problem = problemOf(err, 404)
	ensure(problem.Code == "not_found" && !problem.HasErrors(), "the user is gone", problem)
}

// rows gives a call's rows, or ends the program with its error.
func rows(answer []tenantry.TableUsersRow, _ *http.Response, err error) []tenantry.TableUsersRow {
	ensure(err == nil && len(answer) == 1, "the call answers one row", answer, err)
	return answer
}

func declared(ctx context.Context, api *tenantry.TableUsersAPIService) {
	const prefer = "return=representation"
	input := *tenantry.NewTableUsersCreate("Ada", "ada@example.com")
	ada := rows(api.CreateUsers(ctx).TableUsersCreate(input).Prefer(prefer).Execute())[0]
	ensure(ada.GetId() > 0 && ada.GetName() == "Ada" && ada.HasCreatedAt(), "the row is as it was written", ada)
	read := rows(api.ReadUsers(ctx).Select_("id,name").Name("like.A*").Order("id.desc").Limit(1).Execute())[0]
	ensure(read.GetId() == ada.GetId() && read.GetName() == "Ada" && !read.HasEmail(), "the row is read", read)
	id := fmt.Sprintf("eq.%d", ada.GetId())
	change := tenantry.TableUsersUpdate{Name: tenantry.PtrString("Ada Lovelace")}
	changed := rows(api.UpdateUsers(ctx).TableUsersUpdate(change).Id(id).Prefer(prefer).Execute())[0]
	ensure(changed.GetName() == "Ada Lovelace", "the row is changed", changed)
	deleted := rows(api.DeleteUsers(ctx).Id(id).Prefer(prefer).Execute())[0]
	ensure(deleted.GetId() == ada.GetId(), "the row is deleted", deleted)
}

func ofTenant(ctx context.Context, api *tenantry.TenantAPIService) {
	info := done(api.GetTenantInfo(ctx).Execute())
	ensure(info.Id == tenant && info.Driver == "sqlite", "the tenant's information", info)
	stats := done(api.GetTenantStats(ctx).Execute())
	ensure(stats.Users == 0 && stats.Pool.Max > 0 && stats.Queries.MeanMs > 0, "the tenant's numbers", stats)
}

func health(ctx context.Context, api *tenantry.HealthAPIService) {
	own := done(api.GetTenantHealth(ctx, tenant).Execute())
	ensure(own.Status == tenantry.HEALTHY && own.Error.Get() == nil, "the tenant is well", own)
	ensure(own.LatencyMs.Get() != nil && own.CheckedAt.Get() != nil, "the tenant was asked", own)
	ensure(own.Secret.Get() != nil && !own.Secret.Get().Stale, "the tenant's secret is at hand", own)
	all := done(api.ListTenantsHealth(ctx).Execute())
	for _, each := range all.Tenants {
		if each.Id == "unused" {
			ensure(each.Status == tenantry.IDLE, "nobody uses the tenant", each)
			ensure(each.LatencyMs.Get() == nil && each.CheckedAt.Get() == nil, "nobody asked the tenant", each)
			ensure(each.Secret.Get() == nil, "nobody read the tenant's secret", each)
			return
		}
	}
	ensure(false, "the tenant that nobody uses is known", all)
}

func aMemberThatALaterVersionAdds() {
	const later = `{"id": 1, "name": "Ada", "email": "ada@example.com", "created_at": "2026-01-02T03:04:05Z",
		"updated_at": "2026-01-02T03:04:05Z", "added_later": {"as": ["anything"]}}`
	var user tenantry.User
	err := json.Unmarshal([]byte(later), &user)
	ensure(err == nil && user.Name == "Ada", "a later version's answer can be read", err)
}

func main() {
	configuration := tenantry.NewConfiguration()
	configuration.Servers = tenantry.ServerConfigurations{{URL: url}}
	client := tenantry.NewAPIClient(configuration)
	ctx := named(context.Background(), tenant)
	users(ctx, client.UsersAPI)
	declared(ctx, client.TableUsersAPI)
	ofTenant(ctx, client.TenantAPI)
	health(ctx, client.HealthAPI)

	_, _, err := client.UsersAPI.ListUsers(named(context.Background(), "nobody")).Execute()
	ensure(problemOf(err, strangerStatus).Code == strangerCode, "nobody else is let in", err)
	aMemberThatALaterVersionAdds()
}
