// A react-admin page over declared tables, on an unmodified ra-data-postgrest. Bundled by ./scripts/tables-clients.

import React from "react";
import { createRoot } from "react-dom/client";
import {
  Admin,
  Create,
  Datagrid,
  DateField,
  DeleteButton,
  Edit,
  List,
  NumberInput,
  ReferenceField,
  required,
  Resource,
  SaveButton,
  SimpleForm,
  TextField,
  TextInput,
  Toolbar,
  fetchUtils,
} from "react-admin";
import postgrest, { defaultPrimaryKeys, defaultSchema } from "@raphiniert/ra-data-postgrest";

const { url, token } = window.tenantry;

const dataProvider = postgrest({
  apiUrl: url,
  httpClient: (target, options = {}) =>
    fetchUtils.fetchJson(target, { ...options, user: { authenticated: true, token: `Bearer ${token}` } }),
  defaultListOp: "eq",
  primaryKeys: defaultPrimaryKeys,
  schema: defaultSchema,
});

const filters = [<TextInput key="author" source="author@ilike" label="Author" alwaysOn />];

const ReviewList = () => (
  <List filters={filters} sort={{ field: "id", order: "ASC" }} perPage={5}>
    <Datagrid rowClick="edit" bulkActionButtons={false}>
      <TextField source="id" />
      <ReferenceField source="film_id" reference="films" link={false}>
        <TextField source="title" />
      </ReferenceField>
      <TextField source="author" />
      <TextField source="stars" />
      <TextField source="body" />
      <DateField source="created_at" locales="en-GB" />
    </Datagrid>
  </List>
);

const Fields = () => (
  <>
    <NumberInput source="film_id" validate={required()} />
    <TextInput source="author" />
    <NumberInput source="stars" />
    <TextInput source="body" />
  </>
);

const ReviewCreate = () => (
  <Create redirect="list">
    <SimpleForm>
      <Fields />
    </SimpleForm>
  </Create>
);

const EditToolbar = () => (
  <Toolbar>
    <SaveButton alwaysEnable />
    <DeleteButton mutationMode="pessimistic" />
  </Toolbar>
);

const ReviewEdit = () => (
  <Edit mutationMode="pessimistic" redirect="list">
    <SimpleForm toolbar={<EditToolbar />}>
      <Fields />
    </SimpleForm>
  </Edit>
);

createRoot(document.getElementById("root")).render(
  <Admin dataProvider={dataProvider} title="Films" disableTelemetry>
    <Resource name="reviews" list={ReviewList} create={ReviewCreate} edit={ReviewEdit} />
    <Resource name="films" recordRepresentation="title" />
  </Admin>,
);
