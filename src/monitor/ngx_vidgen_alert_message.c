#include <ngx_config.h>
#include <ngx_core.h>
#include "base/ngx_vidgen_json.h"
#include "monitor/ngx_vidgen_alert_int.h"


#define NGX_VIDGEN_ALERT_TEXT    2048    /* bytes, at least what is needed */
#define NGX_VIDGEN_ALERT_ANSWER  16384
#define NGX_VIDGEN_ALERT_PAUSE   600     /* seconds that may be asked for */


typedef struct {
    char                        *down;
    char                        *up;
} ngx_vidgen_alert_title_t;


static ngx_int_t ngx_vidgen_alert_url(ngx_vidgen_alert_t *alert,
    ngx_str_t *url);
static ngx_int_t ngx_vidgen_alert_body(ngx_vidgen_alert_t *alert,
    ngx_str_t *body);
static ngx_int_t ngx_vidgen_alert_text(ngx_vidgen_alert_t *alert,
    ngx_str_t *text);
static u_char *ngx_vidgen_alert_outage(u_char *p, ngx_vidgen_alert_t *alert);
static u_char *ngx_vidgen_alert_title(u_char *p, ngx_vidgen_alert_t *alert);
static u_char *ngx_vidgen_alert_escape(u_char *p, u_char *text, size_t len);
static u_char *ngx_vidgen_alert_time(u_char *p, time_t when);
static u_char *ngx_vidgen_alert_duration(u_char *p, time_t seconds);
static void ngx_vidgen_alert_answered(ngx_vidgen_fetch_request_t *request);
static time_t ngx_vidgen_alert_retry_after(ngx_vidgen_fetch_answer_t *answer,
    ngx_pool_t *pool, ngx_uint_t *ok);


/* by ngx_vidgen_alert_matter_e */
static ngx_vidgen_alert_title_t  ngx_vidgen_alert_titles[] = {
    { "Database Unreachable", "Database Reachable Again" },
    { "Clocks Apart", "Clocks Together Again" },
    { "Results Without A Job", "No More Results Without A Job" }
};


ngx_int_t
ngx_vidgen_alert_send(ngx_vidgen_alert_t *alert)
{
    ngx_vidgen_fetch_request_t  *request;

    static ngx_str_t  name = ngx_string("Content-Type");
    static ngx_str_t  value = ngx_string("application/json");

    request = ngx_vidgen_fetch_request(alert->monitor->fetch, alert->pool);
    if (request == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&request->method, "POST");
    request->timeout = alert->monitor->conf->timeout;
    request->max = NGX_VIDGEN_ALERT_ANSWER;
    request->handler = ngx_vidgen_alert_answered;
    request->data = alert;

    if (ngx_vidgen_alert_url(alert, &request->url) != NGX_OK
        || ngx_vidgen_alert_body(alert, &request->body) != NGX_OK
        || ngx_vidgen_fetch_header(request, &name, &value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_vidgen_fetch_start(request);
}


/* the token is in it: not for any log */
static ngx_int_t
ngx_vidgen_alert_url(ngx_vidgen_alert_t *alert, ngx_str_t *url)
{
    ngx_vidgen_alert_conf_t  *conf;

    conf = alert->monitor->conf->alert;

    url->data = ngx_pnalloc(alert->pool, conf->url.len + conf->token.len
                                         + sizeof("/bot/sendMessage"));
    if (url->data == NULL) {
        return NGX_ERROR;
    }

    url->len = ngx_sprintf(url->data, "%V/bot%V/sendMessage", &conf->url,
                           &conf->token)
               - url->data;

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_alert_body(ngx_vidgen_alert_t *alert, ngx_str_t *body)
{
    size_t      size;
    u_char     *p;
    ngx_str_t   text, *chat;

    chat = &alert->monitor->conf->alert->chat;

    if (ngx_vidgen_alert_text(alert, &text) != NGX_OK) {
        return NGX_ERROR;
    }

    size = sizeof("{\"chat_id\":,\"text\":,\"parse_mode\":\"HTML\","
                  "\"disable_web_page_preview\":true}")
           + (size_t) ngx_vidgen_json_escape(NULL, chat)
           + (size_t) ngx_vidgen_json_escape(NULL, &text);

    p = ngx_pnalloc(alert->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    p = ngx_sprintf(p, "{\"chat_id\":");
    p = ngx_vidgen_json_escape(p, chat);
    p = ngx_sprintf(p, ",\"text\":");
    p = ngx_vidgen_json_escape(p, &text);
    p = ngx_sprintf(p, ",\"parse_mode\":\"HTML\","
                    "\"disable_web_page_preview\":true}");

    body->len = p - body->data;

    return NGX_OK;
}


static ngx_int_t
ngx_vidgen_alert_text(ngx_vidgen_alert_t *alert, ngx_str_t *text)
{
    time_t       since;
    u_char      *p;
    ngx_str_t   *host;
    ngx_uint_t   down;

    host = (ngx_str_t *) &ngx_cycle->hostname;
    down = alert->kind.data == ngx_vidgen_alert_down.data;

    p = ngx_pnalloc(alert->pool, NGX_VIDGEN_ALERT_TEXT
                                 + 5 * (alert->name.len + host->len));
    if (p == NULL) {
        return NGX_ERROR;
    }

    text->data = p;

    p = ngx_vidgen_alert_title(p, alert);

    if (down) {
        p = ngx_vidgen_alert_outage(p, alert);
        p = ngx_sprintf(p, "\nsince: ");
        p = ngx_vidgen_alert_time(p, alert->began);

    } else {
        since = alert->provider ? alert->health.since : alert->since;

        p = ngx_sprintf(p, "\nafter ");
        p = ngx_vidgen_alert_duration(p, since - alert->began);
        p = ngx_sprintf(p, ", since: ");
        p = ngx_vidgen_alert_time(p, alert->began);
    }

    p = ngx_sprintf(p, "\nseen by: ");
    p = ngx_vidgen_alert_escape(p, host->data, host->len);

    text->len = p - text->data;

    return NGX_OK;
}


static u_char *
ngx_vidgen_alert_title(u_char *p, ngx_vidgen_alert_t *alert)
{
    ngx_uint_t                 down;
    ngx_vidgen_alert_title_t  *title;

    down = alert->kind.data == ngx_vidgen_alert_down.data;

    if (alert->provider == NULL) {
        title = &ngx_vidgen_alert_titles[alert->matter];
        return ngx_sprintf(p, "<b>%s</b>", down ? title->down : title->up);
    }

    p = ngx_sprintf(p, "<b>Provider %s: ", down ? "Down" : "Recovered");
    p = ngx_vidgen_alert_escape(p, alert->name.data, alert->name.len);

    return ngx_sprintf(p, "</b>");
}


static u_char *
ngx_vidgen_alert_outage(u_char *p, ngx_vidgen_alert_t *alert)
{
    ngx_vidgen_health_t  *health;

    if (alert->provider == NULL) {

        switch (alert->matter) {

        case NGX_VIDGEN_ALERT_CLOCK:
            return ngx_sprintf(p, "\nthe database's clock is %L s from this"
                               " machine's", alert->value);

        case NGX_VIDGEN_ALERT_ORPHANS:
            return ngx_sprintf(p, "\nparked results that no job claims: %L",
                               alert->value);

        default:
            return p;
        }
    }

    /* it may have recovered before this could be said */

    health = &alert->health;

    if (health->status == NGX_VIDGEN_DOWN) {
        p = ngx_sprintf(p, "\n%ui consecutive failures", health->failures);

        if (health->reason[0]) {
            p = ngx_sprintf(p, ": ");
            p = ngx_vidgen_alert_escape(p, health->reason,
                                        ngx_strlen(health->reason));
        }

        p = ngx_sprintf(p, "\nresponse time: %ui ms",
                        health->response_time_ms);
    }

    if (health->last_check) {
        p = ngx_sprintf(p, "\nlast check: ");
        p = ngx_vidgen_alert_time(p, health->last_check);
    }

    return p;
}


/* the three that matter in the text of an HTML message */
static u_char *
ngx_vidgen_alert_escape(u_char *p, u_char *text, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {

        switch (text[i]) {

        case '<':
            p = ngx_sprintf(p, "&lt;");
            break;

        case '>':
            p = ngx_sprintf(p, "&gt;");
            break;

        case '&':
            p = ngx_sprintf(p, "&amp;");
            break;

        default:
            *p++ = text[i];
        }
    }

    return p;
}


static u_char *
ngx_vidgen_alert_time(u_char *p, time_t when)
{
    ngx_tm_t  tm;

    ngx_gmtime(when, &tm);

    return ngx_sprintf(p, "%4d-%02d-%02d %02d:%02d:%02d UTC",
                       tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                       tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);
}


static u_char *
ngx_vidgen_alert_duration(u_char *p, time_t seconds)
{
    seconds = ngx_max(seconds, 0);

    if (seconds >= 3600) {
        return ngx_sprintf(p, "%T h %T min", seconds / 3600,
                           seconds % 3600 / 60);
    }

    if (seconds >= 60) {
        return ngx_sprintf(p, "%T min %T s", seconds / 60, seconds % 60);
    }

    return ngx_sprintf(p, "%T s", seconds);
}


static void
ngx_vidgen_alert_answered(ngx_vidgen_fetch_request_t *request)
{
    ngx_vidgen_alert_t *alert = request->data;

    time_t                      retry_after;
    ngx_uint_t                  ok, level;
    ngx_vidgen_fetch_answer_t  *answer;

    answer = &request->answer;

    ok = answer->outcome == NGX_VIDGEN_FETCH_ANSWERED
         && answer->status / 100 == 2;

    /* all alerts wait for it */

    retry_after = ngx_vidgen_alert_retry_after(answer, alert->pool, &ok);
    retry_after = ngx_min(retry_after, NGX_VIDGEN_ALERT_PAUSE);

    level = ok ? NGX_LOG_NOTICE : NGX_LOG_WARN;

    ngx_log_error(level, alert->monitor->log, 0,
                  "vidgen: alert about \"%V\" (%V) %s: HTTP %ui, %s",
                  &alert->name, &alert->kind,
                  ok ? "delivered" : "not delivered", answer->status,
                  answer->detail);

    ngx_vidgen_alert_delivered(alert, ok, retry_after);
}


/* seconds, or -1; whether "ok" says otherwise than the status */
static time_t
ngx_vidgen_alert_retry_after(ngx_vidgen_fetch_answer_t *answer,
    ngx_pool_t *pool, ngx_uint_t *ok)
{
    ngx_int_t              n;
    ngx_str_t              text;
    const char            *reason;
    ngx_vidgen_json_t     *json;
    ngx_vidgen_pointer_t   pointer;

    static ngx_str_t  result = ngx_string("/ok");
    static ngx_str_t  after = ngx_string("/parameters/retry_after");

    json = answer->body.len
           ? ngx_vidgen_json_parse(pool, &answer->body,
                                   NGX_VIDGEN_JSON_PROVIDER, &reason) : NULL;
    if (json == NULL) {
        return answer->retry_after;
    }

    if (ngx_vidgen_pointer_compile(pool, &result, &pointer) == NGX_OK
        && ngx_vidgen_json_text(ngx_vidgen_json_get(json, &pointer), pool,
                                &text) == NGX_OK
        && text.len == 5 && ngx_strncmp(text.data, "false", 5) == 0)
    {
        *ok = 0;
    }

    if (*ok) {
        return -1;
    }

    if (ngx_vidgen_pointer_compile(pool, &after, &pointer) == NGX_OK
        && ngx_vidgen_json_text(ngx_vidgen_json_get(json, &pointer), pool,
                                &text) == NGX_OK)
    {
        n = ngx_atoi(text.data, text.len);

        if (n > 0) {
            return n;
        }
    }

    return answer->retry_after;
}
