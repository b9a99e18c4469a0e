#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "base/ngx_vidgen_json.h"
#include "base/ngx_vidgen_signature.h"
#include "core/ngx_vidgen_provider.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_health.h"
#include "http/ngx_http_vidgen_live.h"
#include "http/ngx_http_vidgen_request.h"
#include "http/ngx_http_vidgen_response.h"
#include "shm/ngx_vidgen_health.h"


#define NGX_HTTP_VIDGEN_HEALTH_TIME  sizeof("\"1970-01-01T00:00:00Z\"")


static ngx_int_t ngx_http_vidgen_health_answer(ngx_http_request_t *r,
    ngx_http_vidgen_main_conf_t *mcf);
static ngx_int_t ngx_http_vidgen_health_provider(ngx_http_request_t *r,
    ngx_array_t *providers, ngx_vidgen_provider_t **provider);
static ngx_int_t ngx_http_vidgen_health_print(ngx_http_request_t *r,
    ngx_http_vidgen_main_conf_t *mcf, ngx_vidgen_provider_t *only,
    ngx_str_t *body);
static u_char *ngx_http_vidgen_health_member(u_char *p,
    ngx_vidgen_zone_t *zone, ngx_vidgen_provider_t *provider);
static u_char *ngx_http_vidgen_health_time(u_char *p, time_t when);
static ngx_int_t ngx_http_vidgen_health_etag(ngx_http_request_t *r,
    ngx_str_t *body);


ngx_int_t
ngx_http_vidgen_health_handler(ngx_http_request_t *r)
{
    ngx_int_t                     rc;
    ngx_http_vidgen_main_conf_t  *mcf;

    rc = ngx_http_vidgen_request_get(r);
    if (rc != NGX_DECLINED) {
        return rc;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);

    ngx_http_vidgen_live_listen(mcf, r->connection->log);

    return ngx_http_vidgen_health_answer(r, mcf);
}


static ngx_int_t
ngx_http_vidgen_health_answer(ngx_http_request_t *r,
    ngx_http_vidgen_main_conf_t *mcf)
{
    ngx_int_t               rc;
    ngx_str_t               body;
    ngx_vidgen_provider_t  *provider;

    static ngx_str_t  no_cache = ngx_string("no-cache");

    rc = ngx_http_vidgen_health_provider(r, &mcf->providers, &provider);

    if (rc == NGX_DECLINED) {
        return ngx_http_vidgen_send_error(r, NGX_HTTP_VIDGEN_ABSENT_PROVIDER,
                                          NULL);
    }

    if (rc != NGX_OK
        || ngx_http_vidgen_health_print(r, mcf, provider, &body) != NGX_OK
        || ngx_http_vidgen_health_etag(r, &body) != NGX_OK
        || ngx_http_vidgen_add_header(r, "Cache-Control", &no_cache)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_vidgen_send(r, NGX_HTTP_OK, &body);
}


/* that of ?provider=; NULL: all of them; NGX_DECLINED: there is none */
static ngx_int_t
ngx_http_vidgen_health_provider(ngx_http_request_t *r, ngx_array_t *providers,
    ngx_vidgen_provider_t **provider)
{
    ngx_int_t  rc;
    ngx_str_t  name;

    *provider = NULL;

    rc = ngx_http_vidgen_request_argument(r, "provider", &name);
    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_OK : rc;
    }

    *provider = ngx_vidgen_provider_find(providers, &name);

    return *provider ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_vidgen_health_print(ngx_http_request_t *r,
    ngx_http_vidgen_main_conf_t *mcf, ngx_vidgen_provider_t *only,
    ngx_str_t *body)
{
    size_t                   size;
    u_char                  *p;
    ngx_uint_t               i;
    ngx_vidgen_provider_t  **provider;

    size = sizeof("{\"name\":\"\",\"status\":\"degraded\","
                  "\"response_time_ms\":,\"last_check\":,"
                  "\"consecutive_failures\":,\"reason\":,\"since\":},")
           + NGX_VIDGEN_PROVIDER_NAME_MAX + 2 * NGX_INT_T_LEN
           + 2 * NGX_HTTP_VIDGEN_HEALTH_TIME
           + 6 * sizeof(((ngx_vidgen_health_t *) 0)->reason);

    p = ngx_pnalloc(r->pool, size * (mcf->providers.nelts + 1)
                             + sizeof("{\"providers\":[]}"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    if (only) {
        p = ngx_http_vidgen_health_member(p, mcf->zone, only);

    } else {
        p = ngx_cpymem(p, "{\"providers\":[", sizeof("{\"providers\":[") - 1);
        provider = mcf->providers.elts;

        for (i = 0; i < mcf->providers.nelts; i++) {
            if (i) {
                *p++ = ',';
            }

            p = ngx_http_vidgen_health_member(p, mcf->zone, provider[i]);
        }

        *p++ = ']';
        *p++ = '}';
    }

    body->len = p - body->data;

    return NGX_OK;
}


static u_char *
ngx_http_vidgen_health_member(u_char *p, ngx_vidgen_zone_t *zone,
    ngx_vidgen_provider_t *provider)
{
    ngx_str_t            reason;
    ngx_vidgen_health_t  health;

    ngx_vidgen_health_get(zone, &provider->name, &health);

    p = ngx_sprintf(p, "{\"name\":\"%V\",\"status\":\"%V\","
                    "\"response_time_ms\":", &provider->name,
                    &ngx_vidgen_health_names[health.status]);

    p = health.renewed ? ngx_sprintf(p, "%ui", health.response_time_ms)
                       : ngx_cpymem(p, "null", sizeof("null") - 1);

    p = ngx_sprintf(p, ",\"last_check\":");
    p = ngx_http_vidgen_health_time(p, health.last_check);
    p = ngx_sprintf(p, ",\"consecutive_failures\":%ui,\"reason\":",
                    health.failures);

    reason.data = health.reason;
    reason.len = ngx_strlen(health.reason);

    p = reason.len ? ngx_vidgen_json_escape(p, &reason)
                   : ngx_cpymem(p, "null", sizeof("null") - 1);

    p = ngx_sprintf(p, ",\"since\":");
    p = ngx_http_vidgen_health_time(p, health.since);
    *p++ = '}';

    return p;
}


static u_char *
ngx_http_vidgen_health_time(u_char *p, time_t when)
{
    ngx_tm_t  tm;

    if (when == 0) {
        return ngx_cpymem(p, "null", sizeof("null") - 1);
    }

    ngx_gmtime(when, &tm);

    return ngx_sprintf(p, "\"%4d-%02d-%02dT%02d:%02d:%02dZ\"",
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);
}


/* nginx itself answers 304 by it */
static ngx_int_t
ngx_http_vidgen_health_etag(ngx_http_request_t *r, ngx_str_t *body)
{
    u_char           *p, digest[NGX_VIDGEN_SHA256_LEN];
    ngx_table_elt_t  *etag;

    etag = ngx_list_push(&r->headers_out.headers);
    if (etag == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(etag, sizeof(ngx_table_elt_t));

    p = ngx_pnalloc(r->pool, 32 + 2);
    if (p == NULL || ngx_vidgen_sha256(body, 1, digest) != NGX_OK) {
        return NGX_ERROR;
    }

    etag->value.data = p;
    *p++ = '"';
    p = ngx_hex_dump(p, digest, 16);
    *p++ = '"';
    etag->value.len = p - etag->value.data;

    etag->hash = 1;
    ngx_str_set(&etag->key, "ETag");

    r->headers_out.etag = etag;

    return NGX_OK;
}
