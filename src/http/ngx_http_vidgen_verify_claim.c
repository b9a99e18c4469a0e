#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_verify_claim.h"
#include "shm/ngx_vidgen_metric.h"


/* twice: where, provider and kind; and three more with separators */
#define NGX_HTTP_VIDGEN_VERIFY_PIECES  16


typedef struct {
    ngx_str_t                  piece[NGX_HTTP_VIDGEN_VERIFY_PIECES];
    ngx_uint_t                 n;
} ngx_http_vidgen_verify_identity_t;


static ngx_int_t ngx_http_vidgen_verify_identify(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, ngx_vidgen_result_t *result,
    u_char *key);
static ngx_int_t ngx_http_vidgen_verify_event_id(ngx_http_request_t *r,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *id);
static ngx_uint_t ngx_http_vidgen_verify_final(ngx_vidgen_result_t *result);
static void ngx_http_vidgen_verify_piece(
    ngx_http_vidgen_verify_identity_t *identity, ngx_str_t *text);


ngx_int_t
ngx_http_vidgen_verify_claim(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, ngx_vidgen_result_t *result,
    ngx_http_vidgen_verify_claim_t *claim)
{
    ngx_int_t                     rc;
    ngx_vidgen_seen_value_t       value;
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_vidgen_module);

    ngx_memzero(claim, sizeof(ngx_http_vidgen_verify_claim_t));

    claim->zone = mcf->zone;
    claim->value.provider = event->provider->crc;
    claim->value.http_status = NGX_HTTP_OK;
    claim->value.job_status = result ? result->status : 0;

    if (ngx_http_vidgen_verify_identify(r, event, result, claim->key)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_vidgen_seen_claim(claim->zone, claim->key, NGX_VIDGEN_SEEN_LEASE,
                               &value, &claim->seen);

    /* a zone full of claims holds nothing up: it is passed on without one */

    if (rc == NGX_BUSY && !claim->seen.taken) {
        rc = NGX_DECLINED;
    }

    claim->open = (rc == NGX_DECLINED);

    return rc;
}


/*
 * The same event may be sent to several applications, so the location is a
 * part of its identity.  No text but the body has a NUL, so the pieces cannot
 * be taken for others; no other key of the zone begins with one.
 */

static ngx_int_t
ngx_http_vidgen_verify_identify(ngx_http_request_t *r,
    ngx_http_vidgen_event_t *event, ngx_vidgen_result_t *result, u_char *key)
{
    ngx_int_t                           rc;
    ngx_str_t                           id;
    ngx_vidgen_scheme_t                *scheme;
    ngx_http_core_srv_conf_t           *cscf;
    ngx_http_core_loc_conf_t           *clcf;
    ngx_http_vidgen_verify_identity_t   identity;

    static ngx_str_t  by_event = ngx_string("event");
    static ngx_str_t  by_job = ngx_string("job");
    static ngx_str_t  by_body = ngx_string("body");

    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    scheme = &event->provider->webhook->scheme;

    identity.n = 0;

    ngx_http_vidgen_verify_piece(&identity, &cscf->server_name);
    ngx_http_vidgen_verify_piece(&identity, &clcf->name);
    ngx_http_vidgen_verify_piece(&identity, &event->provider->name);

    rc = ngx_http_vidgen_verify_event_id(r, scheme, &id);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc == NGX_OK) {
        ngx_http_vidgen_verify_piece(&identity, &by_event);
        ngx_http_vidgen_verify_piece(&identity, &id);

        /* whoever saw one webhook could give it the id of another */

        if (!scheme->event_id_signed) {
            ngx_http_vidgen_verify_piece(&identity, &event->body);
        }

    } else if (result && ngx_http_vidgen_verify_final(result)) {
        ngx_http_vidgen_verify_piece(&identity, &by_job);
        ngx_http_vidgen_verify_piece(&identity, &result->job_id);
        ngx_http_vidgen_verify_piece(&identity,
                                    &ngx_vidgen_status_names[result->status]);

    } else {
        ngx_http_vidgen_verify_piece(&identity, &by_body);
        ngx_http_vidgen_verify_piece(&identity, &event->body);
    }

    return ngx_vidgen_sha256(identity.piece, identity.n, key);
}


/* NGX_DECLINED: the definition names none, or the request has none */

static ngx_int_t
ngx_http_vidgen_verify_event_id(ngx_http_request_t *r,
    ngx_vidgen_scheme_t *scheme, ngx_str_t *id)
{
    ngx_str_t                  *name;
    ngx_http_variable_value_t  *value;

    name = &scheme->event_id_variable;

    if (name->len == 0) {
        return NGX_DECLINED;
    }

    value = ngx_http_get_variable(r, name,
                                  ngx_hash_key(name->data, name->len));
    if (value == NULL) {
        return NGX_ERROR;
    }

    if (value->not_found || value->len == 0) {
        return NGX_DECLINED;
    }

    id->data = value->data;
    id->len = value->len;

    return NGX_OK;
}


/*
 * A job ends once, but it may say many times that it goes on, and then its
 * progress is in the body.  A failure that only the map's "*" produced may be
 * such a word too.
 */

static ngx_uint_t
ngx_http_vidgen_verify_final(ngx_vidgen_result_t *result)
{
    if (result->job_id.len == 0 || result->wildcard) {
        return 0;
    }

    return result->status == NGX_VIDGEN_STATUS_COMPLETED
           || result->status == NGX_VIDGEN_STATUS_FAILED;
}


static void
ngx_http_vidgen_verify_piece(ngx_http_vidgen_verify_identity_t *identity,
    ngx_str_t *text)
{
    static ngx_str_t  separator = { 1, (u_char *) "\0" };

    identity->piece[identity->n++] = separator;
    identity->piece[identity->n++] = *text;
}


ngx_uint_t
ngx_http_vidgen_verify_end(ngx_http_vidgen_verify_claim_t *claim,
    ngx_uint_t status)
{
    if (!claim->open) {
        return 0;
    }

    claim->open = 0;

    if (status >= NGX_HTTP_OK && status < NGX_HTTP_SPECIAL_RESPONSE) {
        ngx_vidgen_seen_done(claim->zone, claim->key, &claim->value,
                             &claim->seen);
        ngx_vidgen_metric_add(claim->zone, NGX_VIDGEN_VERIFY_ACCEPTED, 1);

    } else {
        ngx_vidgen_seen_release(claim->zone, claim->key, &claim->seen);
        ngx_vidgen_metric_add(claim->zone, NGX_VIDGEN_VERIFY_RELEASED, 1);
    }

    return 1;
}
