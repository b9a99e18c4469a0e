#include <ngx_config.h>
#include <ngx_core.h>
#include "monitor/ngx_vidgen_monitor_int.h"


static ngx_int_t ngx_vidgen_monitor_fill(ngx_vidgen_fetch_request_t *request,
    ngx_vidgen_provider_t *provider, ngx_vidgen_request_t *definition,
    ngx_vidgen_source_t *source, ngx_pool_t *pool);


void *
ngx_vidgen_monitor_call_create(ngx_vidgen_monitor_t *monitor, size_t size,
    ngx_vidgen_pg_handler_pt handler)
{
    ngx_pool_t                 *pool;
    ngx_vidgen_monitor_call_t  *call;

    pool = ngx_create_pool(1024, monitor->log);
    if (pool == NULL) {
        return NULL;
    }

    call = ngx_pcalloc(pool, size);
    if (call == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    call->pool = pool;
    call->monitor = monitor;
    call->call.handler = handler;
    call->call.data = call;

    return call;
}


ngx_int_t
ngx_vidgen_monitor_call_start(ngx_vidgen_monitor_call_t *call,
    ngx_vidgen_store_statement_e statement, void *params)
{
    if (call->monitor->store == NULL) {
        return NGX_BUSY;
    }

    return ngx_vidgen_store_start(call->monitor->store, statement,
                                  &call->call, params);
}


ngx_int_t
ngx_vidgen_monitor_call_check(ngx_vidgen_monitor_call_t *call,
    ngx_vidgen_pg_result_t *result)
{
    if (result->outcome == NGX_VIDGEN_PG_DONE) {
        call->monitor->answered = ngx_current_msec;
        return NGX_OK;
    }

    if (result->outcome == NGX_VIDGEN_PG_REJECTED) {
        call->monitor->answered = ngx_current_msec;

        ngx_log_error(NGX_LOG_ERR, call->monitor->log, 0,
                      "vidgen: the monitor's statement \"%s\" was refused by"
                      " the database (%s): %V", call->call.statement->name,
                      result->sqlstate, &result->message);
    }

    return NGX_DECLINED;
}


ngx_msec_t
ngx_vidgen_monitor_jitter(ngx_msec_t ms)
{
    ngx_msec_t  tenth;

    tenth = ms / 10;

    return ms - tenth + ngx_random() % (2 * tenth + 1);
}


ngx_vidgen_fetch_request_t *
ngx_vidgen_monitor_request(ngx_vidgen_monitor_t *monitor,
    ngx_vidgen_provider_t *provider, ngx_vidgen_request_t *definition,
    ngx_vidgen_source_t *source, ngx_pool_t *pool, ngx_int_t *rc)
{
    ngx_vidgen_fetch_request_t  *request;

    *rc = NGX_ERROR;

    request = ngx_vidgen_fetch_request(monitor->fetch, pool);
    if (request == NULL) {
        return NULL;
    }

    ngx_vidgen_provider_source(provider, source);

    *rc = ngx_vidgen_monitor_fill(request, provider, definition, source, pool);
    if (*rc != NGX_OK) {
        return NULL;
    }

    request->method = definition->method;
    request->timeout = monitor->conf->timeout;

    return request;
}


static ngx_int_t
ngx_vidgen_monitor_fill(ngx_vidgen_fetch_request_t *request,
    ngx_vidgen_provider_t *provider, ngx_vidgen_request_t *definition,
    ngx_vidgen_source_t *source, ngx_pool_t *pool)
{
    ngx_int_t           rc;
    ngx_uint_t          i;
    ngx_array_t         headers;
    ngx_vidgen_pair_t  *pair;

    static ngx_vidgen_pair_t  own[] = {
        { ngx_string("Accept"), ngx_string("application/json") },
        { ngx_string("Content-Type"), ngx_string("application/json") }
    };

    if (ngx_array_init(&headers, pool, 8, sizeof(ngx_vidgen_pair_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_vidgen_provider_url(definition, source, pool, &request->url);

    if (rc == NGX_OK) {
        rc = ngx_vidgen_provider_body(definition, source, pool,
                                      &request->body);
    }

    if (rc == NGX_OK) {
        rc = ngx_vidgen_provider_headers(provider, definition, source, pool,
                                         &headers);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    /* what has no body has no type of it */

    for (i = 0; i < (request->body.len ? 2 : 1); i++) {
        if (ngx_vidgen_fetch_header(request, &own[i].name, &own[i].value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    pair = headers.elts;

    for (i = 0; i < headers.nelts; i++) {
        if (ngx_vidgen_fetch_header(request, &pair[i].name, &pair[i].value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}
