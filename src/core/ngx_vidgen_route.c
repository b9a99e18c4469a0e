#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_route.h"
#include "shm/ngx_vidgen_health.h"


#define NGX_VIDGEN_ROUTE_WAIT  60        /* seconds at most */


typedef struct {
    ngx_uint_t                   from;       /* HTTP statuses */
    ngx_uint_t                   to;
    ngx_vidgen_attempt_state_e   state;
    ngx_uint_t                   next;
    ngx_uint_t                   content;
} ngx_vidgen_route_status_t;


typedef struct {
    ngx_str_t                    reason;
    ngx_uint_t                   next;
} ngx_vidgen_route_transport_t;


static void ngx_vidgen_route_transport(ngx_vidgen_response_t *response,
    ngx_vidgen_verdict_t *verdict);
static ngx_int_t ngx_vidgen_route_status(ngx_uint_t status,
    ngx_pool_t *pool, ngx_vidgen_verdict_t *verdict);
static void ngx_vidgen_route_listed(ngx_vidgen_submit_t *submit,
    ngx_uint_t status, ngx_vidgen_verdict_t *verdict);
static ngx_int_t ngx_vidgen_route_success(ngx_vidgen_submit_t *submit,
    ngx_vidgen_response_t *response, ngx_pool_t *pool,
    ngx_vidgen_verdict_t *verdict);
static void ngx_vidgen_route_unread(ngx_vidgen_response_t *response,
    ngx_vidgen_verdict_t *verdict);
static void ngx_vidgen_route_invalid(ngx_vidgen_verdict_t *verdict);
static time_t ngx_vidgen_route_held_until(ngx_vidgen_provider_t *provider,
    ngx_vidgen_zone_t *zone, ngx_vidgen_health_rule_t *rule);
static u_char *ngx_vidgen_route_candidate(u_char *p,
    ngx_vidgen_provider_t *provider, ngx_vidgen_zone_t *zone,
    ngx_vidgen_health_rule_t *rule, ngx_vidgen_health_e status);


ngx_str_t  ngx_vidgen_attempt_state_names[] = {
    ngx_string("accepted"),
    ngx_string("unsent"),
    ngx_string("refused"),
    ngx_string("unknown")
};


/* by ngx_vidgen_transport_e */
static ngx_vidgen_route_transport_t  ngx_vidgen_route_transports[] = {
    { ngx_null_string,       0 },
    { ngx_string("connect"), NGX_VIDGEN_NEXT_ERROR },
    { ngx_string("dns"),     NGX_VIDGEN_NEXT_ERROR },
    { ngx_string("tls"),     NGX_VIDGEN_NEXT_ERROR },
    { ngx_string("reset"),   NGX_VIDGEN_NEXT_ERROR },
    { ngx_string("timeout"), NGX_VIDGEN_NEXT_TIMEOUT }
};


#define ACCEPTED  NGX_VIDGEN_ATTEMPT_STATE_ACCEPTED
#define REFUSED   NGX_VIDGEN_ATTEMPT_STATE_REFUSED
#define UNKNOWN   NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN

/*
 * The first row that holds the status decides.  408, 502, 504 and 52x come
 * from a gateway before the provider that did not get its answer; 500, 501
 * and 503 are the provider's own no.  nginx takes an interim answer for the
 * final one, and what would have followed it may be an acceptance.
 */
static ngx_vidgen_route_status_t  ngx_vidgen_route_statuses[] = {
    { 100, 199, UNKNOWN,  NGX_VIDGEN_NEXT_INVALID_ANSWER, 0 },
    { 200, 299, ACCEPTED, 0, 0 },
    { 400, 400, REFUSED,  0, 1 },
    { 401, 401, REFUSED,  NGX_VIDGEN_NEXT_HTTP_401, 0 },
    { 402, 402, REFUSED,  NGX_VIDGEN_NEXT_HTTP_402, 0 },
    { 403, 403, REFUSED,  NGX_VIDGEN_NEXT_HTTP_403, 0 },
    { 404, 404, REFUSED,  NGX_VIDGEN_NEXT_HTTP_404, 0 },
    { 408, 408, UNKNOWN,  NGX_VIDGEN_NEXT_TIMEOUT, 0 },
    { 413, 413, REFUSED,  0, 1 },
    { 415, 415, REFUSED,  0, 1 },
    { 422, 422, REFUSED,  0, 1 },
    { 429, 429, REFUSED,  NGX_VIDGEN_NEXT_HTTP_429, 0 },
    { 451, 451, REFUSED,  0, 1 },
    { 504, 504, UNKNOWN,  NGX_VIDGEN_NEXT_TIMEOUT|NGX_VIDGEN_NEXT_HTTP_5XX,
      0 },
    { 502, 502, UNKNOWN,  NGX_VIDGEN_NEXT_HTTP_5XX, 0 },
    { 520, 529, UNKNOWN,  NGX_VIDGEN_NEXT_HTTP_5XX, 0 },
    { 500, 599, REFUSED,  NGX_VIDGEN_NEXT_HTTP_5XX, 0 },
    {   0, 999, REFUSED,  0, 0 }
};

#undef ACCEPTED
#undef REFUSED
#undef UNKNOWN


ngx_int_t
ngx_vidgen_route_judge(ngx_vidgen_submit_t *submit,
    ngx_vidgen_response_t *response, ngx_pool_t *pool,
    ngx_vidgen_verdict_t *verdict)
{
    ngx_int_t  rc;

    ngx_memzero(verdict, sizeof(ngx_vidgen_verdict_t));

    if (response->transport != NGX_VIDGEN_TRANSPORT_ANSWERED) {
        ngx_vidgen_route_transport(response, verdict);
        return NGX_OK;
    }

    if (response->http_status == 0) {
        /* not HTTP: it had the request, and nobody can tell what it says */
        ngx_vidgen_route_invalid(verdict);
        return NGX_OK;
    }

    rc = ngx_vidgen_route_status(response->http_status, pool, verdict);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_vidgen_route_listed(submit, response->http_status, verdict);

    return ngx_vidgen_route_success(submit, response, pool, verdict);
}


static void
ngx_vidgen_route_transport(ngx_vidgen_response_t *response,
    ngx_vidgen_verdict_t *verdict)
{
    ngx_vidgen_route_transport_t  *transport;

    transport = &ngx_vidgen_route_transports[response->transport];

    verdict->reason = transport->reason;
    verdict->next = transport->next;
    verdict->state = NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN;

    if (!response->sent) {
        verdict->state = NGX_VIDGEN_ATTEMPT_STATE_UNSENT;
        verdict->next |= NGX_VIDGEN_NEXT_UNSENT;
    }
}


static ngx_int_t
ngx_vidgen_route_status(ngx_uint_t status, ngx_pool_t *pool,
    ngx_vidgen_verdict_t *verdict)
{
    u_char                     *p;
    ngx_vidgen_route_status_t  *row;

    row = ngx_vidgen_route_statuses;

    while (status < row->from || status > row->to) {
        row++;
    }

    verdict->state = row->state;
    verdict->next = row->next;
    verdict->content = row->content;

    p = ngx_pnalloc(pool, sizeof("http_") - 1 + NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    verdict->reason.data = p;
    verdict->reason.len = ngx_sprintf(p, "http_%ui", status) - p;

    return NGX_OK;
}


/* what the definition says of a status against the table */
static void
ngx_vidgen_route_listed(ngx_vidgen_submit_t *submit, ngx_uint_t status,
    ngx_vidgen_verdict_t *verdict)
{
    if (ngx_vidgen_provider_code(&submit->refused, status)) {
        verdict->state = NGX_VIDGEN_ATTEMPT_STATE_REFUSED;
    }

    if (ngx_vidgen_provider_code(&submit->unknown, status)) {
        verdict->state = NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN;
        verdict->content = 0;
    }
}


/*
 * Reads the answer's body: what makes an acceptance complete, or takes it
 * back (a refusal inside of a 200), and the message of a refusal.
 */
static ngx_int_t
ngx_vidgen_route_success(ngx_vidgen_submit_t *submit,
    ngx_vidgen_response_t *response, ngx_pool_t *pool,
    ngx_vidgen_verdict_t *verdict)
{
    ngx_int_t           rc;
    const char         *reason;
    ngx_vidgen_json_t  *json;

    if (response->unread) {
        ngx_vidgen_route_unread(response, verdict);
        return NGX_OK;
    }

    json = ngx_vidgen_json_parse(pool, &response->body,
                                 NGX_VIDGEN_JSON_PROVIDER, &reason);
    if (json == NULL && reason == NULL) {
        return NGX_ERROR;
    }

    if (json == NULL) {
        if (verdict->state == NGX_VIDGEN_ATTEMPT_STATE_ACCEPTED) {
            ngx_vidgen_route_invalid(verdict);
        }

        return NGX_OK;
    }

    rc = ngx_vidgen_provider_read(&submit->reading, json, pool,
                                  &verdict->result, &reason);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    verdict->message = verdict->result.error;

    if (verdict->state != NGX_VIDGEN_ATTEMPT_STATE_ACCEPTED) {
        return NGX_OK;
    }

    if (ngx_vidgen_provider_condition(&submit->refuse, json, pool)) {
        return ngx_vidgen_route_status(422, pool, verdict);
    }

    if (ngx_vidgen_provider_condition(&submit->retry, json, pool)) {
        return ngx_vidgen_route_status(503, pool, verdict);
    }

    if (rc != NGX_OK
        || verdict->result.job_id.len == 0
        || !ngx_vidgen_provider_accepted(&submit->accept, json, pool))
    {
        ngx_vidgen_route_invalid(verdict);
        return NGX_OK;
    }

    verdict->json = json;

    return NGX_OK;
}


static void
ngx_vidgen_route_unread(ngx_vidgen_response_t *response,
    ngx_vidgen_verdict_t *verdict)
{
    if (verdict->state != NGX_VIDGEN_ATTEMPT_STATE_ACCEPTED) {
        return;
    }

    ngx_vidgen_route_invalid(verdict);

    if (response->too_large) {
        ngx_str_set(&verdict->message, "the answer is too large");

    } else {
        ngx_str_set(&verdict->message, "the answer cannot be read");
    }
}


static void
ngx_vidgen_route_invalid(ngx_vidgen_verdict_t *verdict)
{
    verdict->state = NGX_VIDGEN_ATTEMPT_STATE_UNKNOWN;
    verdict->next = NGX_VIDGEN_NEXT_INVALID_ANSWER;
    ngx_str_set(&verdict->reason, "invalid_answer");
}


ngx_int_t
ngx_vidgen_route_candidates(ngx_array_t *providers, ngx_vidgen_zone_t *zone,
    ngx_vidgen_health_rule_t *rule, ngx_pool_t *pool, ngx_str_t *json)
{
    size_t                   size;
    u_char                  *p;
    ngx_uint_t               i, pass;
    ngx_vidgen_health_t     *health;
    ngx_vidgen_provider_t  **provider;

    size = sizeof("[]");
    provider = providers->elts;

    /* as of now, so that none is in two states */

    health = ngx_palloc(pool, providers->nelts * sizeof(ngx_vidgen_health_t));
    if (health == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < providers->nelts; i++) {
        size += sizeof("{\"name\":\"\",\"degraded\":true,\"max_jobs\":},")
                + provider[i]->name.len + NGX_INT_T_LEN;

        ngx_vidgen_health_get(zone, &provider[i]->name, &health[i]);
    }

    p = ngx_pnalloc(pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    json->data = p;
    *p++ = '[';

    for (pass = NGX_VIDGEN_HEALTHY; pass <= NGX_VIDGEN_DOWN; pass++) {
        for (i = 0; i < providers->nelts; i++) {
            if (health[i].status == pass && health[i].cooldown <= ngx_time())
            {
                p = ngx_vidgen_route_candidate(p, provider[i], zone, rule,
                                               pass);
            }
        }
    }

    *p++ = ']';
    json->len = p - json->data;

    return NGX_OK;
}


/* prints it, if it is not down or may be tried all the same */
static u_char *
ngx_vidgen_route_candidate(u_char *p, ngx_vidgen_provider_t *provider,
    ngx_vidgen_zone_t *zone, ngx_vidgen_health_rule_t *rule,
    ngx_vidgen_health_e status)
{
    char        *word;
    ngx_uint_t   first;

    first = p[-1] == '[';
    word = "";

    if (status == NGX_VIDGEN_DEGRADED) {
        word = ",\"degraded\":true";

    } else if (status == NGX_VIDGEN_DOWN) {

        if (ngx_vidgen_health_admit(zone, &provider->name, rule, first)
            == NGX_DECLINED)
        {
            return p;
        }

        word = ",\"trial\":true";
    }

    p = ngx_sprintf(p, "%s{\"name\":\"%V\"%s", first ? "" : ",",
                    &provider->name, word);

    if (provider->submit->max_jobs) {
        p = ngx_sprintf(p, ",\"max_jobs\":%ui", provider->submit->max_jobs);
    }

    *p++ = '}';

    return p;
}


ngx_uint_t
ngx_vidgen_route_wait(ngx_array_t *providers, ngx_vidgen_zone_t *zone,
    ngx_vidgen_health_rule_t *rule)
{
    time_t                   until, first;
    ngx_uint_t               i;
    ngx_vidgen_provider_t  **provider;

    first = 0;
    provider = providers->elts;

    for (i = 0; i < providers->nelts; i++) {

        until = ngx_vidgen_route_held_until(provider[i], zone, rule);

        if (until && (first == 0 || until < first)) {
            first = until;
        }
    }

    if (first == 0) {
        return 0;
    }

    first = ngx_max(first - ngx_time(), 1);

    return ngx_min(first, NGX_VIDGEN_ROUTE_WAIT);
}


/* 0: it is neither cooling nor down */
static time_t
ngx_vidgen_route_held_until(ngx_vidgen_provider_t *provider,
    ngx_vidgen_zone_t *zone, ngx_vidgen_health_rule_t *rule)
{
    time_t               until, end;
    ngx_vidgen_health_t  health;

    ngx_vidgen_health_get(zone, &provider->name, &health);

    until = health.cooldown > ngx_time() ? health.cooldown : 0;

    if (health.status != NGX_VIDGEN_DOWN) {
        return until;
    }

    /* a trial, or the next probe, which may have been asked for */

    end = health.renewed + 2 * (time_t) rule->interval / 1000;

    if (provider->probe) {
        end = ngx_min(end, health.last_check
                           + (time_t) rule->interval / 1000);
    }

    end = ngx_max(end, ngx_time() + 1);

    return ngx_max(until, end);
}
