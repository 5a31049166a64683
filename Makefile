# Short names for the real commands.

-include .env
APP_PORT ?= 8080
MOTO_PORT ?= 4566
# The program and curl read it from the environment, so that no command line shows it.
export TENANTRY_ADMIN_TOKEN

# moto takes any credentials.
AWS = AWS_REGION=$${AWS_REGION:-eu-central-1} AWS_ENDPOINT_URL=http://localhost:$(MOTO_PORT) \
      AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test

.DEFAULT_GOAL := help
.PHONY: help docker-up docker-logs status docker-down run migrate dev-app dev-up test coverage test-tenant1 deploy-check

help: ## Show this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

docker-up: ## Start Secrets Manager and every tenant's database, and write the secrets
	docker compose up --detach --wait moto postgres-default postgres-tenant1 postgres-tenant2 oracle-tenant3 mariadb-tenant4
	docker compose run --rm --no-deps seed

docker-logs: ## Follow the containers' logs
	docker compose --profile '*' logs --follow --tail=100

status: ## Show the containers, if there are any, and the health of the tenants
	-docker compose --profile '*' ps --all
	curl --silent --show-error --max-time 10 -H "Authorization: Bearer $$TENANTRY_ADMIN_TOKEN" 'localhost:$(APP_PORT)/health/tenants?probe=true'; echo

docker-down: ## Stop the containers; their data stays (docker compose down --volumes removes it)
	docker compose --profile '*' down

run: ## Run the program on this machine, with the servers of docker-up or ./scripts/dev-up
	$(AWS) TENANTRY__SERVER__LISTEN=127.0.0.1:$(APP_PORT) cargo run -- --config config.compose.yaml

migrate: ## Apply migrations and sample rows to every tenant
	$(AWS) cargo run -- --config config.compose.yaml migrate

dev-app: ## Run the program in a container, with everything that it needs
	docker compose --profile app up --build

dev-up: ## Start the same servers without Docker, until Ctrl-C
	./scripts/dev-up

test: ## Run the tests
	./scripts/test

coverage: ## Run the tests, and write the covered lines to target/llvm-cov/html (cargo install cargo-llvm-cov)
	cargo build --quiet --workspace --bin tenantry-test-servers
	tools=$$(./scripts/test-tools) && TENANTRY_TEST_MOTO="$$tools/moto_server" TENANTRY_TEST_BAO="$$tools/bao" \
		TENANTRY_TEST_DRONGO="$$tools/drongo" target/debug/tenantry-test-servers \
		cargo llvm-cov --workspace --html

test-tenant1: ## Request tenant1's users from the running program
	curl --fail-with-body --silent --show-error --max-time 10 -H 'X-Tenant-ID: tenant1' localhost:$(APP_PORT)/api/v1/tenant/info; echo
	curl --fail-with-body --silent --show-error --max-time 10 -H 'X-Tenant-ID: tenant1' localhost:$(APP_PORT)/api/v1/tenant/users; echo

deploy-check: ## Check the compose file, the Dockerfile and the manifests as far as that goes without Docker
	./scripts/deploy-check
