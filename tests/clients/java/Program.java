import java.time.Duration;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.JSON;
import org.openapitools.client.api.HealthApi;
import org.openapitools.client.api.TableUsersApi;
import org.openapitools.client.api.TenantApi;
import org.openapitools.client.api.UsersApi;
import org.openapitools.client.auth.ApiKeyAuth;
import org.openapitools.client.auth.HttpBearerAuth;
import org.openapitools.client.model.Problem;
import org.openapitools.client.model.TableUsersCreate;
import org.openapitools.client.model.TableUsersUpdate;
import org.openapitools.client.model.TenantStatus;
import org.openapitools.client.model.User;
import org.openapitools.client.model.UserInput;

/** What a user of the generated Java client would write. Run by ./scripts/clients, which sets the environment. */
public final class Program {
    private static final String URL = System.getenv("TENANTRY_URL");
    private static final String TENANT = System.getenv("TENANTRY_TENANT");
    /** Where a token names the tenant, it is this one. */
    private static final String TOKEN = System.getenv("TENANTRY_TOKEN");

    private interface Call {
        Object run() throws ApiException;
    }

    private Program() {}

    private static void ensure(boolean holds, Object value) {
        if (!holds) {
            throw new AssertionError(value);
        }
    }

    private static Problem problemOf(int status, Call call) throws Exception {
        try {
            throw new AssertionError("this should have been refused: " + call.run());
        } catch (ApiException error) {
            Problem problem = Problem.fromJson(error.getResponseBody());
            ensure(error.getCode() == status && problem.getStatus() == status, problem);
            ensure(!problem.getTitle().isEmpty() && !problem.getDetail().isEmpty(), problem);
            ensure(!problem.getRequestId().isEmpty(), problem);
            return problem;
        }
    }

    private static ApiClient clientOf(String tenant, String token) {
        ApiClient client = new ApiClient().setBasePath(URL);
        if (token == null) {
            ((ApiKeyAuth) client.getAuthentication("TenantHeader")).setApiKey(tenant);
        } else {
            ((HttpBearerAuth) client.getAuthentication("TenantToken")).setBearerToken(token);
        }
        return client;
    }

    private static UserInput input(String name, String email) {
        return new UserInput().name(name).email(email);
    }

    private static void users(UsersApi api) throws Exception {
        List<User> created = new ArrayList<>();
        for (String name : List.of("Ada", "Grace", "Jean")) {
            created.add(api.createUser(input(name, name.toLowerCase() + "@example.com")));
        }
        User ada = created.get(0);
        ensure(ada.getId() > 0 && ada.getName().equals("Ada") && ada.getEmail().equals("ada@example.com"), ada);
        Duration age = Duration.between(ada.getCreatedAt(), OffsetDateTime.now()).abs();
        ensure(age.compareTo(Duration.ofMinutes(10)) < 0, ada);

        var first = api.listUsers(2, null);
        ensure(first.getItems().equals(created.subList(0, 2)) && first.getNext() != null, first);
        var second = api.listUsers(2, first.getNext());
        ensure(second.getItems().equals(created.subList(2, 3)) && second.getNext() == null, second);

        ensure(api.getUser(ada.getId()).equals(ada), ada);
        User updated = api.updateUser(ada.getId(), input("Ada Lovelace", ada.getEmail()));
        ensure(updated.getName().equals("Ada Lovelace"), updated);
        ensure(!updated.getUpdatedAt().isBefore(ada.getUpdatedAt()), updated);
        ensure(api.getUser(ada.getId()).equals(updated), updated);

        Problem conflict = problemOf(409, () -> api.createUser(input("Another", "grace@example.com")));
        ensure(conflict.getCode().equals("conflict") && conflict.getErrors().size() == 1, conflict);
        ensure("/email".equals(conflict.getErrors().get(0).getPointer()), conflict);

        for (User user : created) {
            api.deleteUser(user.getId());
        }
        Problem gone = problemOf(404, () -> api.getUser(ada.getId()));
        ensure(gone.getCode().equals("not_found"), gone);
    }

    private static void declared(TableUsersApi api) throws ApiException {
        String prefer = "return=representation";
        var input = new TableUsersCreate().name("Ada").email("ada@example.com");
        var ada = api.createUsers(input, prefer).get(0);
        ensure(ada.getId() > 0 && ada.getName().equals("Ada") && ada.getCreatedAt() != null, ada);
        var read = api.readUsers("id,name", null, "like.A*", null, null, null, null, null, "id.desc", 1, null, null);
        ensure(read.size() == 1 && read.get(0).getId().equals(ada.getId()) && read.get(0).getEmail() == null, read);
        String id = "eq." + ada.getId();
        var change = new TableUsersUpdate().name("Ada Lovelace");
        var changed = api.updateUsers(change, id, null, null, null, null, prefer).get(0);
        ensure(changed.getName().equals("Ada Lovelace"), changed);
        var deleted = api.deleteUsers(id, null, null, null, null, prefer).get(0);
        ensure(deleted.getId().equals(ada.getId()), deleted);
    }

    private static void ofTenant(TenantApi api) throws ApiException {
        var info = api.getTenantInfo();
        ensure(info.getId().equals(TENANT) && info.getDriver().equals("sqlite"), info);
        var stats = api.getTenantStats();
        ensure(stats.getUsers() == 0 && stats.getPool().getMax() > 0 && stats.getQueries().getMeanMs() > 0, stats);
    }

    private static void health(HealthApi api) throws ApiException {
        var own = api.getTenantHealth(TENANT);
        ensure(own.getStatus() == TenantStatus.HEALTHY && own.getError() == null, own);
        ensure(own.getLatencyMs() != null && own.getCheckedAt() != null, own);
        ensure(own.getSecret() != null && !own.getSecret().getStale(), own);
        var tenants = api.listTenantsHealth(null, null, null, null).getTenants();
        var unused = tenants.stream().filter(each -> each.getId().equals("unused")).findAny().orElseThrow();
        ensure(unused.getStatus() == TenantStatus.IDLE, unused);
        ensure(unused.getLatencyMs() == null && unused.getCheckedAt() == null && unused.getSecret() == null, unused);
    }

    private static void aMemberThatALaterVersionAdds() {
        String later = "{'id': 1, 'name': 'Ada', 'email': 'ada@example.com', 'created_at': '2026-01-02T03:04:05Z', "
                + "'updated_at': '2026-01-02T03:04:05Z', 'added_later': {'as': ['anything']}}";
        User user = JSON.deserialize(later.replace('\'', '"'), User.class);
        ensure(user.getName().equals("Ada"), user);
    }

    public static void main(String[] arguments) throws Exception {
        ApiClient client = clientOf(TENANT, TOKEN);
        users(new UsersApi(client));
        declared(new TableUsersApi(client));
        ofTenant(new TenantApi(client));
        health(new HealthApi(client));

        UsersApi wrong = new UsersApi(clientOf("nobody", TOKEN == null ? null : "not a token"));
        Problem refused = problemOf(TOKEN == null ? 404 : 401, () -> wrong.listUsers(null, null));
        ensure(refused.getCode().equals(TOKEN == null ? "tenant_unknown" : "unauthenticated"), refused);
        aMemberThatALaterVersionAdds();
    }
}
