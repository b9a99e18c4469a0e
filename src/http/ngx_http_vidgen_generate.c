#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_generate.h"
#include "http/ngx_http_vidgen_operation.h"
#include "http/ngx_http_vidgen_replay.h"
#include "http/ngx_http_vidgen_request.h"
#include "http/ngx_http_vidgen_scope.h"
#include "shm/ngx_vidgen_metric.h"


static void ngx_http_vidgen_generate_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_vidgen_generate_start(ngx_http_request_t *r);
static ngx_int_t ngx_http_vidgen_generate_prepare(
    ngx_http_vidgen_operation_t *op, ngx_str_t *candidates,
    ngx_http_vidgen_error_e *error, ngx_str_t *detail);
static ngx_int_t ngx_http_vidgen_generate_prefer(
    ngx_http_vidgen_operation_t *op, ngx_array_t *providers,
    ngx_http_vidgen_error_e *error);
static ngx_int_t ngx_http_vidgen_generate_usable(
    ngx_http_vidgen_operation_t *op, ngx_array_t *providers,
    ngx_array_t *usable);
static ngx_int_t ngx_http_vidgen_generate_try(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_provider_t *provider);
static ngx_int_t ngx_http_vidgen_generate_fill(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_provider_t *provider);
static ngx_int_t ngx_http_vidgen_generate_refuse(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_str_t *detail);


ngx_int_t
ngx_http_vidgen_generate_handler(ngx_http_request_t *r)
{
    if (r != r->main) {
        /*
         * A generation belongs to its main request, whose values and keys two
         * would share; and nginx never goes on with what waits for an attempt
         * in the background.
         */
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "vidgen: a generation in a subrequest is refused");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_http_vidgen_ctx(r, 1) == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vidgen_request_post(r, ngx_http_vidgen_generate_body);
}


static void
ngx_http_vidgen_generate_body(ngx_http_request_t *r)
{
    ngx_int_t  rc;

    rc = ngx_http_vidgen_generate_start(r);

    /* NGX_DONE: the operation finalizes it */

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
        return;
    }

    r->write_event_handler = ngx_http_request_empty_handler;
}


static ngx_int_t
ngx_http_vidgen_generate_start(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_str_t                     candidates, detail;
    ngx_http_vidgen_error_e       error;
    ngx_http_vidgen_operation_t  *op;

    ngx_str_null(&detail);

    rc = ngx_http_vidgen_operation_create(r, &op);

    if (rc == NGX_BUSY) {
        return ngx_http_vidgen_generate_refuse(r, NGX_HTTP_VIDGEN_UNAVAILABLE,
                                               NULL);
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_vidgen_generate_prepare(op, &candidates, &error, &detail);

    if (rc == NGX_OK) {
        rc = ngx_http_vidgen_operation_start(op, &candidates);
    }

    if (rc == NGX_OK) {
        return NGX_DONE;
    }

    if (rc == NGX_DONE) {
        /* the zone knows the answer */
        rc = ngx_http_vidgen_replay_send(op);
        ngx_http_vidgen_operation_destroy(op);
        return rc;
    }

    if (rc == NGX_BUSY) {
        error = NGX_HTTP_VIDGEN_UNAVAILABLE;
    }

    if (rc == NGX_BUSY || rc == NGX_DECLINED) {
        /* detail may lie in the operation's pool */
        rc = ngx_http_vidgen_generate_refuse(r, error, &detail);

    } else {
        rc = NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_vidgen_operation_destroy(op);

    return rc;
}


/*
 * Everything that can be refused before anything is held or sent.  NGX_OK;
 * NGX_DONE: it is a replay that the zone can answer; NGX_DECLINED with *error
 * and perhaps *detail; NGX_ERROR: no memory.
 */
static ngx_int_t
ngx_http_vidgen_generate_prepare(ngx_http_vidgen_operation_t *op,
    ngx_str_t *candidates, ngx_http_vidgen_error_e *error, ngx_str_t *detail)
{
    ngx_int_t     rc;
    ngx_array_t  *providers, usable;

    rc = ngx_http_vidgen_input_read(op->task.request, op->task.pool,
                                    &op->input, error, detail);
    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_vidgen_replay_find(op) == NGX_OK) {
        return NGX_DONE;
    }

    providers = op->lcf->candidates ? op->lcf->candidates
                                    : &op->mcf->submitters;

    rc = ngx_http_vidgen_generate_prefer(op, providers, error);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_vidgen_generate_usable(op, providers, &usable);
    if (rc != NGX_OK) {
        *error = NGX_HTTP_VIDGEN_BAD_FIELD;
        ngx_str_set(detail, "a value has bytes that cannot be sent");
        return rc;
    }

    return ngx_vidgen_route_candidates(&usable, op->mcf->zone,
                                       &op->mcf->monitor.rule, op->task.pool,
                                       candidates);
}


/* the provider to be tried first: vidgen_prefer's, else the body's */
static ngx_int_t
ngx_http_vidgen_generate_prefer(ngx_http_vidgen_operation_t *op,
    ngx_array_t *providers, ngx_http_vidgen_error_e *error)
{
    ngx_str_t  preferred;

    ngx_str_null(&preferred);

    if (op->lcf->prefer
        && ngx_http_complex_value(op->task.request, op->lcf->prefer,
                                  &preferred)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (preferred.len) {
        op->input.provider = preferred;
    }

    if (op->input.provider.len
        && ngx_vidgen_provider_find(providers, &op->input.provider) == NULL)
    {
        *error = NGX_HTTP_VIDGEN_UNKNOWN_PROVIDER;
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/*
 * The providers whose URL can take the values: a map that has no name for the
 * model leaves one out.  NGX_DECLINED: there is none, or a header has bytes
 * that cannot be sent; NGX_ERROR: no memory.
 */
static ngx_int_t
ngx_http_vidgen_generate_usable(ngx_http_vidgen_operation_t *op,
    ngx_array_t *providers, ngx_array_t *usable)
{
    ngx_int_t                rc;
    ngx_uint_t               i;
    ngx_vidgen_provider_t  **provider, **place;

    if (ngx_array_init(usable, op->task.pool, providers->nelts,
                       sizeof(ngx_vidgen_provider_t *))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    provider = providers->elts;

    for (i = 0; i < providers->nelts; i++) {

        rc = ngx_http_vidgen_generate_try(op, provider[i]);

        if (rc == NGX_DONE) {
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        place = ngx_array_push(usable);
        if (place == NULL) {
            return NGX_ERROR;
        }

        *place = provider[i];
    }

    return usable->nelts ? NGX_OK : NGX_DECLINED;
}


/*
 * With fresh variables, for a map may differ by provider.  NGX_DONE: its URL
 * cannot be filled.
 */
static ngx_int_t
ngx_http_vidgen_generate_try(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_provider_t *provider)
{
    ngx_int_t                 rc;
    ngx_http_request_t       *r;
    ngx_http_vidgen_ctx_t    *ctx;
    ngx_http_vidgen_scope_t   scope;

    r = op->task.request;
    ctx = op->task.ctx;

    if (ngx_http_vidgen_scope_enter(r, op->task.pool, op->variables, &scope)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->provider = provider->name;

    rc = ngx_http_vidgen_generate_fill(op, provider);

    ngx_str_null(&ctx->provider);
    ngx_http_vidgen_scope_leave(r, &scope);

    return rc;
}


static ngx_int_t
ngx_http_vidgen_generate_fill(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_provider_t *provider)
{
    ngx_int_t              rc;
    ngx_str_t              url;
    ngx_array_t            headers;
    ngx_vidgen_request_t  *request;

    request = &provider->submit->request;

    if (ngx_http_vidgen_operation_source(op, provider) != NGX_OK
        || ngx_array_init(&headers, op->task.pool, 4,
                          sizeof(ngx_vidgen_pair_t)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_vidgen_provider_url(request, &op->source, op->task.pool, &url);
    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_DONE : rc;
    }

    return ngx_vidgen_provider_headers(provider, request, &op->source,
                                       op->task.pool, &headers);
}


static ngx_int_t
ngx_http_vidgen_generate_refuse(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_str_t *detail)
{
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);

    ngx_vidgen_metric_add(mcf->zone, error == NGX_HTTP_VIDGEN_UNAVAILABLE
                                     ? NGX_VIDGEN_GENERATE_UNAVAILABLE
                                     : NGX_VIDGEN_GENERATE_REJECTED, 1);

    return ngx_http_vidgen_send_refusal(r, error, detail);
}
