#include <ngx_config.h>
#include <ngx_core.h>
#include "core/ngx_vidgen_keyring.h"
#include "monitor/ngx_vidgen_monitor_int.h"
#include "shm/ngx_vidgen_metric.h"
#include "shm/ngx_vidgen_relay.h"


#define NGX_VIDGEN_KEYSET_REFRESH  3600000   /* ms, where the answer says
                                                nothing */
#define NGX_VIDGEN_KEYSET_STALE    60000     /* ms, where it may not be kept */
#define NGX_VIDGEN_KEYSET_LEAST    1000      /* ms */
#define NGX_VIDGEN_KEYSET_MOST     43200000  /* ms */
#define NGX_VIDGEN_KEYSET_RETRY    5000      /* ms, doubled each time */
#define NGX_VIDGEN_KEYSET_PATIENCE 300000    /* ms, between retries at most */
#define NGX_VIDGEN_KEYSET_HURRY    20000     /* ms, the same without any set */
#define NGX_VIDGEN_KEYSET_WISH     60000     /* ms, between fetches that bad
                                                signatures cause, */
#define NGX_VIDGEN_KEYSET_WISHES   4         /* but for so many at a time */


struct ngx_vidgen_keyset_s {
    ngx_vidgen_monitor_t        *monitor;
    ngx_vidgen_provider_t       *provider;
    ngx_pool_t                  *pool;       /* of the fetch under way */
    ngx_str_t                    file;
    ngx_msec_t                   next;
    ngx_msec_t                   refilled;   /* wishes, at that time */
    ngx_uint_t                   wishes;     /* that may be granted */
    time_t                       heard;      /* the last wish */
    ngx_uint_t                   failures;   /* in a row */
    unsigned                     there:1;    /* the file */
};


static void ngx_vidgen_keyset_schedule(ngx_vidgen_keyset_t *keyset);
static ngx_uint_t ngx_vidgen_keyset_wish(ngx_vidgen_keyset_t *keyset);
static void ngx_vidgen_keyset_start(ngx_vidgen_keyset_t *keyset);
static void ngx_vidgen_keyset_done(ngx_vidgen_fetch_request_t *request);
static ngx_msec_t ngx_vidgen_keyset_lasts(time_t max_age);
static const char *ngx_vidgen_keyset_take(ngx_vidgen_keyset_t *keyset,
    ngx_vidgen_fetch_answer_t *answer);
static ngx_int_t ngx_vidgen_keyset_write(ngx_vidgen_keyset_t *keyset,
    ngx_str_t *text);
static ngx_int_t ngx_vidgen_keyset_fill(ngx_vidgen_keyset_t *keyset,
    u_char *name, ngx_str_t *text);
static void ngx_vidgen_keyset_failed(ngx_vidgen_keyset_t *keyset,
    ngx_vidgen_fetch_answer_t *answer, const char *why);


ngx_int_t
ngx_vidgen_keyset_create(ngx_vidgen_monitor_t *monitor)
{
    ngx_uint_t               i, n;
    ngx_vidgen_keyset_t     *keyset;
    ngx_vidgen_provider_t  **provider;

    n = monitor->conf->providers->nelts;
    provider = monitor->conf->providers->elts;

    monitor->keysets = ngx_pcalloc(monitor->pool,
                                   n * sizeof(ngx_vidgen_keyset_t));
    if (monitor->keysets == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {
        keyset = &monitor->keysets[i];

        if (provider[i]->webhook == NULL
            || provider[i]->webhook->scheme.jwks.len == 0)
        {
            continue;
        }

        keyset->monitor = monitor;
        keyset->provider = provider[i];
        keyset->refilled = ngx_current_msec;
        keyset->wishes = NGX_VIDGEN_KEYSET_WISHES;

        if (ngx_vidgen_keyring_file(monitor->pool, monitor->conf, provider[i],
                                    &keyset->file)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        (void) ngx_vidgen_relay_keys(monitor->conf->zone, &provider[i]->name,
                                     &keyset->heard);

        ngx_vidgen_keyset_schedule(keyset);
    }

    return NGX_OK;
}


/* what is on the disk may have been fetched a moment ago */
static void
ngx_vidgen_keyset_schedule(ngx_vidgen_keyset_t *keyset)
{
    time_t           mtime, now, left;
    ngx_file_info_t  fi;

    keyset->next = ngx_current_msec;

    if (ngx_file_info(keyset->file.data, &fi) == NGX_FILE_ERROR) {
        return;
    }

    keyset->there = 1;

    now = ngx_time();
    mtime = ngx_file_mtime(&fi);
    left = mtime + NGX_VIDGEN_KEYSET_STALE / 1000 - now;

    if (left > 0 && mtime <= now) {
        keyset->next += (ngx_msec_t) left * 1000;
    }
}


void
ngx_vidgen_keyset_tick(ngx_vidgen_monitor_t *monitor)
{
    ngx_uint_t            i;
    ngx_vidgen_keyset_t  *keyset;

    for (i = 0; i < monitor->conf->providers->nelts; i++) {
        keyset = &monitor->keysets[i];

        if (keyset->provider == NULL || keyset->pool) {
            continue;
        }

        if (ngx_vidgen_monitor_due(keyset->next)
            || ngx_vidgen_keyset_wish(keyset))
        {
            ngx_vidgen_keyset_start(keyset);
        }
    }
}


/* a worker has met a signature of an unknown key: perhaps there is a new one */
static ngx_uint_t
ngx_vidgen_keyset_wish(ngx_vidgen_keyset_t *keyset)
{
    time_t  asked;

    if (ngx_vidgen_monitor_due(keyset->refilled + NGX_VIDGEN_KEYSET_WISH)) {
        keyset->refilled = ngx_current_msec;
        keyset->wishes = ngx_min(keyset->wishes + 1, NGX_VIDGEN_KEYSET_WISHES);
    }

    (void) ngx_vidgen_relay_keys(keyset->monitor->conf->zone,
                                 &keyset->provider->name, &asked);

    if (asked == keyset->heard || keyset->wishes == 0) {
        return 0;
    }

    keyset->heard = asked;
    keyset->wishes--;

    return 1;
}


static void
ngx_vidgen_keyset_start(ngx_vidgen_keyset_t *keyset)
{
    ngx_pool_t                  *pool;
    ngx_vidgen_fetch_request_t  *request;

    keyset->next = ngx_current_msec + NGX_VIDGEN_KEYSET_RETRY;

    pool = ngx_create_pool(4096, keyset->monitor->log);
    if (pool == NULL) {
        return;
    }

    request = ngx_vidgen_fetch_request(keyset->monitor->fetch, pool);

    if (request) {
        ngx_str_set(&request->method, "GET");
        request->url = keyset->provider->webhook->scheme.jwks;
        request->timeout = keyset->monitor->conf->timeout;
        request->max = NGX_VIDGEN_KEYRING_MAX;
        request->handler = ngx_vidgen_keyset_done;
        request->data = keyset;
    }

    if (request == NULL || ngx_vidgen_fetch_start(request) != NGX_OK) {
        ngx_destroy_pool(pool);
        return;
    }

    keyset->pool = pool;
}


static void
ngx_vidgen_keyset_done(ngx_vidgen_fetch_request_t *request)
{
    ngx_vidgen_keyset_t *keyset = request->data;

    const char                 *why;
    ngx_vidgen_zone_t          *zone;
    ngx_vidgen_fetch_answer_t  *answer;

    answer = &request->answer;
    zone = keyset->monitor->conf->zone;

    why = ngx_vidgen_keyset_take(keyset, answer);

    if (why) {
        ngx_vidgen_metric_add(zone, NGX_VIDGEN_KEYS_FAILED, 1);
        ngx_vidgen_keyset_failed(keyset, answer, why);

    } else {
        ngx_vidgen_metric_add(zone, NGX_VIDGEN_KEYS_FETCHED, 1);
        ngx_vidgen_relay_keys_new(zone, &keyset->provider->name);

        keyset->failures = 0;
        keyset->there = 1;

        keyset->next = ngx_current_msec
                       + ngx_vidgen_keyset_lasts(answer->max_age);
    }

    ngx_destroy_pool(keyset->pool);
    keyset->pool = NULL;
}


/* ms until it is fetched again, well before it expires; max_age: seconds */
static ngx_msec_t
ngx_vidgen_keyset_lasts(time_t max_age)
{
    ngx_msec_t  ms;

    if (max_age < 0) {
        ms = NGX_VIDGEN_KEYSET_REFRESH;

    } else if (max_age == 0) {
        ms = NGX_VIDGEN_KEYSET_STALE;

    } else {
        max_age = ngx_min(max_age, NGX_VIDGEN_KEYSET_MOST / 1000 * 2);
        ms = (ngx_msec_t) max_age * 800;
        ms = ngx_max(ms, NGX_VIDGEN_KEYSET_LEAST);
        ms = ngx_min(ms, NGX_VIDGEN_KEYSET_MOST);
    }

    return ngx_vidgen_monitor_jitter(ms);
}


/* NULL: it is on the disk; else why not */
static const char *
ngx_vidgen_keyset_take(ngx_vidgen_keyset_t *keyset,
    ngx_vidgen_fetch_answer_t *answer)
{
    ngx_int_t     rc;
    ngx_array_t   keys;
    const char   *reason;

    if (answer->outcome != NGX_VIDGEN_FETCH_ANSWERED) {
        return answer->detail;
    }

    if (answer->status != 200) {
        return "it was not found";
    }

    if (ngx_array_init(&keys, keyset->pool, 4, sizeof(void *)) != NGX_OK) {
        return "no memory";
    }

    reason = "no memory";

    rc = ngx_vidgen_scheme_load_jwks(keyset->pool, &answer->body, &keys,
                                     &reason);
    if (rc != NGX_OK) {
        return reason ? reason : "no memory";
    }

    return ngx_vidgen_keyset_write(keyset, &answer->body) == NGX_OK
           ? NULL : "it could not be written";
}


/* as a whole or not at all: the workers read it at any moment */
static ngx_int_t
ngx_vidgen_keyset_write(ngx_vidgen_keyset_t *keyset, ngx_str_t *text)
{
    u_char  *name;

    name = ngx_pnalloc(keyset->pool, keyset->file.len + NGX_INT64_LEN
                                     + sizeof(".new"));
    if (name == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(name, "%V.%P.new%Z", &keyset->file, ngx_pid);

    if (ngx_vidgen_keyset_fill(keyset, name, text) == NGX_OK) {

        if (ngx_rename_file(name, keyset->file.data) != NGX_FILE_ERROR) {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_CRIT, keyset->monitor->log, ngx_errno,
                      "vidgen: " ngx_rename_file_n " \"%s\" to \"%V\" failed",
                      name,
                      &keyset->file);
    }

    (void) ngx_delete_file(name);

    return NGX_ERROR;
}


static ngx_int_t
ngx_vidgen_keyset_fill(ngx_vidgen_keyset_t *keyset, u_char *name,
    ngx_str_t *text)
{
    ssize_t   n;
    ngx_fd_t  fd;

    fd = ngx_open_file(name, NGX_FILE_WRONLY, NGX_FILE_TRUNCATE,
                       NGX_FILE_DEFAULT_ACCESS);
    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(NGX_LOG_CRIT, keyset->monitor->log, ngx_errno,
                      "vidgen: " ngx_open_file_n " \"%s\" failed", name);
        return NGX_ERROR;
    }

    n = ngx_write_fd(fd, text->data, text->len);

    if (n != (ssize_t) text->len) {
        ngx_log_error(NGX_LOG_CRIT, keyset->monitor->log, ngx_errno,
                      "vidgen: " ngx_write_fd_n " to \"%s\" failed", name);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        n = -1;
    }

    return n == (ssize_t) text->len ? NGX_OK : NGX_ERROR;
}


/* what is there is kept */
static void
ngx_vidgen_keyset_failed(ngx_vidgen_keyset_t *keyset,
    ngx_vidgen_fetch_answer_t *answer, const char *why)
{
    ngx_msec_t  ms, max;
    ngx_uint_t  i, level;

    keyset->failures++;

    ms = NGX_VIDGEN_KEYSET_RETRY;
    max = keyset->there ? NGX_VIDGEN_KEYSET_PATIENCE : NGX_VIDGEN_KEYSET_HURRY;

    for (i = 1; i < keyset->failures && ms < max; i++) {
        ms *= 2;
    }

    ms = ngx_min(ms, max);

    keyset->next = ngx_current_msec + ngx_vidgen_monitor_jitter(ms);

    level = keyset->there ? NGX_LOG_WARN : NGX_LOG_ERR;

    ngx_log_error(level, keyset->monitor->log, 0,
                  "vidgen: the key set of provider \"%V\" could not be"
                  " fetched (HTTP %ui): %s; %s", &keyset->provider->name,
                  answer->status, why,
                  keyset->there ? "the one on the disk is kept"
                                : "its webhooks get 503 until it is there");
}
