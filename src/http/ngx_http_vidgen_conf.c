#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_route.h"
#include "core/ngx_vidgen_secret.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_conf_knob.h"


static char *ngx_http_vidgen_conf_database_knob(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf, ngx_uint_t i);


static ngx_http_vidgen_knob_t  ngx_http_vidgen_database_knobs[] = {
    { "connections=", NGX_HTTP_VIDGEN_NUMBER,
      offsetof(ngx_vidgen_pg_conf_t, connections), 1, 64 },
    { "queue=", NGX_HTTP_VIDGEN_NUMBER,
      offsetof(ngx_vidgen_pg_conf_t, queue), 1, 0 },
    { "timeout=", NGX_HTTP_VIDGEN_TIME,
      offsetof(ngx_vidgen_pg_conf_t, timeout), 100, 0 },
    { NULL, 0, 0, 0, 0 }
};


void *
ngx_http_vidgen_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_vidgen_main_conf_t  *mcf;

    mcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_vidgen_main_conf_t));
    if (mcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&mcf->providers, cf->pool, 4,
                       sizeof(ngx_vidgen_provider_t *)) != NGX_OK
        || ngx_array_init(&mcf->submitters, cf->pool, 4,
                          sizeof(ngx_vidgen_provider_t *)) != NGX_OK
        || ngx_array_init(&mcf->secrets, cf->pool, 2,
                          sizeof(ngx_vidgen_key_t *)) != NGX_OK
        || ngx_array_init(&mcf->locations, cf->pool, 4,
                          sizeof(ngx_http_vidgen_location_t)) != NGX_OK)
    {
        return NULL;
    }

    mcf->idempotency_ttl = NGX_CONF_UNSET_MSEC;
    mcf->idempotency_required = NGX_CONF_UNSET;
    mcf->monitor.enabled = NGX_CONF_UNSET_UINT;
    mcf->monitor.rule.slow = NGX_CONF_UNSET_MSEC;

    return mcf;
}


char *
ngx_http_vidgen_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    ngx_conf_init_msec_value(mcf->idempotency_ttl, 72 * 3600 * 1000);
    ngx_conf_init_value(mcf->idempotency_required, 0);

    ngx_http_vidgen_init_monitor(mcf);

    if (mcf->zone_name.len == 0) {
        ngx_str_set(&mcf->zone_name, "vidgen");
    }

    return NGX_CONF_OK;
}


void *
ngx_http_vidgen_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_vidgen_loc_conf_t  *lcf;

    lcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_vidgen_loc_conf_t));
    if (lcf == NULL) {
        return NULL;
    }

    lcf->dry_run = NGX_CONF_UNSET;
    lcf->attempt_timeout = NGX_CONF_UNSET_MSEC;
    lcf->next_provider_tries = NGX_CONF_UNSET_UINT;
    lcf->next_provider_timeout = NGX_CONF_UNSET_MSEC;
    lcf->retry_attempts = NGX_CONF_UNSET_UINT;
    lcf->retry_backoff = NGX_CONF_UNSET_MSEC;
    lcf->retry_max = NGX_CONF_UNSET_MSEC;

    return lcf;
}


char *
ngx_http_vidgen_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_vidgen_loc_conf_t *prev = parent;
    ngx_http_vidgen_loc_conf_t *conf = child;

    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    /* "if" and "limit_except" blocks are the location itself */

    if ((clcf->noname || clcf->lmt_excpt) && conf->handler == NULL
        && prev->handler)
    {
        conf->role = prev->role;
        conf->handler = prev->handler;
        conf->candidates = prev->candidates;
        conf->webhook_provider = prev->webhook_provider;

        if (clcf->handler == NULL) {
            clcf->handler = conf->handler;
        }
    }

    /* it guards nested locations too, unless they verify on their own */

    if (conf->role == NGX_HTTP_VIDGEN_NONE
        && prev->role == NGX_HTTP_VIDGEN_VERIFY)
    {
        conf->role = prev->role;
        conf->webhook_provider = prev->webhook_provider;
    }

    if (conf->dry_run == NGX_CONF_UNSET) {
        conf->dry_run_file = prev->dry_run_file;
        conf->dry_run_line = prev->dry_run_line;
    }

    ngx_conf_merge_value(conf->dry_run, prev->dry_run, 0);

    if (conf->user_id == NULL) {
        conf->user_id = prev->user_id;
    }

    if (conf->prefer == NULL) {
        conf->prefer = prev->prefer;
    }

    ngx_conf_merge_str_value(conf->pass, prev->pass, "/_vidgen");
    ngx_conf_merge_str_value(conf->webhook_url, prev->webhook_url, "");
    ngx_conf_merge_msec_value(conf->attempt_timeout, prev->attempt_timeout,
                              10000);
    ngx_conf_merge_bitmask_value(conf->next_provider, prev->next_provider,
                                 (NGX_CONF_BITMASK_SET
                                  |NGX_VIDGEN_NEXT_ERROR
                                  |NGX_VIDGEN_NEXT_TIMEOUT
                                  |NGX_VIDGEN_NEXT_HTTP_5XX
                                  |NGX_VIDGEN_NEXT_HTTP_429));
    ngx_conf_merge_uint_value(conf->next_provider_tries,
                              prev->next_provider_tries, 0);
    ngx_conf_merge_msec_value(conf->next_provider_timeout,
                              prev->next_provider_timeout, 30000);
    ngx_conf_merge_uint_value(conf->retry_attempts, prev->retry_attempts, 3);
    ngx_conf_merge_msec_value(conf->retry_backoff, prev->retry_backoff, 500);
    ngx_conf_merge_msec_value(conf->retry_max, prev->retry_max, 8000);

    if (conf->next_provider & NGX_VIDGEN_NEXT_OFF) {
        conf->next_provider = NGX_CONF_BITMASK_SET|NGX_VIDGEN_NEXT_OFF;
    }

    return NGX_CONF_OK;
}


/* vidgen_zone name:size */
char *
ngx_http_vidgen_conf_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    u_char     *colon;
    ssize_t     size;
    ngx_str_t   text, *value;

    if (mcf->zone_size) {
        return "is duplicate";
    }

    value = cf->args->elts;

    colon = ngx_strlchr(value[1].data, value[1].data + value[1].len, ':');

    if (colon == NULL || colon == value[1].data) {
        return ngx_http_vidgen_conf_invalid(cf, &value[1]);
    }

    text.data = colon + 1;
    text.len = value[1].data + value[1].len - text.data;

    size = ngx_parse_size(&text);

    if (size == NGX_ERROR) {
        return ngx_http_vidgen_conf_invalid(cf, &value[1]);
    }

    if (size < (ssize_t) NGX_VIDGEN_ZONE_MIN_SIZE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "zone \"%V\" is too small, at least %uzk is needed",
                           &value[1],
                           (size_t) NGX_VIDGEN_ZONE_MIN_SIZE / 1024);
        return NGX_CONF_ERROR;
    }

    mcf->zone_name.data = value[1].data;
    mcf->zone_name.len = colon - value[1].data;
    mcf->zone_size = size;
    mcf->zone_file = cf->conf_file->file.name.data;
    mcf->zone_line = cf->conf_file->line;

    return NGX_CONF_OK;
}


/* vidgen_database conninfo [connections=] [timeout=] [queue=] [notify=on] */
char *
ngx_http_vidgen_conf_database(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    char                  *rv;
    ngx_int_t              rc;
    ngx_str_t             *value;
    ngx_uint_t             i;
    ngx_vidgen_pg_conf_t  *database;

    if (mcf->database) {
        return "is duplicate";
    }

    database = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_pg_conf_t));
    if (database == NULL) {
        return NGX_CONF_ERROR;
    }

    mcf->database = database;
    mcf->database_file = cf->conf_file->file.name.data;
    mcf->database_line = cf->conf_file->line;
    database->connections = 2;
    database->timeout = 5000;
    database->queue = 4096;

    value = cf->args->elts;

    rc = ngx_vidgen_secret_read(cf, &value[1], &database->conninfo);

    if (rc == NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" is not set or empty",
                           &value[1]);
    }

    if (rc != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_vidgen_conf_database_knob(cf, mcf, i);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_database_knob(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf, ngx_uint_t i)
{
    char       *rv;
    ngx_str_t  *knob, value;

    knob = (ngx_str_t *) cf->args->elts + i;

    if (ngx_http_vidgen_conf_set_knob(cf, knob, ngx_http_vidgen_database_knobs,
                                      mcf->database, &rv))
    {
        return rv;
    }

    if (ngx_http_vidgen_conf_knob(knob, "notify=", &value)) {
        mcf->notify = value.len == 2 && ngx_strncmp(value.data, "on", 2) == 0;

        if (mcf->notify
            || (value.len == 3 && ngx_strncmp(value.data, "off", 3) == 0))
        {
            return NGX_CONF_OK;
        }

        return ngx_http_vidgen_conf_invalid(cf, knob);
    }

    /* of a connection string without quotes this may be the password */

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter %ui: a connection string with"
                       " spaces is to be quoted", i);

    return NGX_CONF_ERROR;
}


/* vidgen_idempotency [ttl=T] [required] */
char *
ngx_http_vidgen_conf_idempotency(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    ngx_int_t    n;
    ngx_str_t    text, *value;
    ngx_uint_t   i;

    if (mcf->idempotency_required != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    mcf->idempotency_required = 0;
    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "required") == 0) {
            mcf->idempotency_required = 1;
            continue;
        }

        n = NGX_ERROR;

        if (ngx_http_vidgen_conf_knob(&value[i], "ttl=", &text)) {
            n = ngx_parse_time(&text, 0);
        }

        if (n < 1000) {
            return ngx_http_vidgen_conf_invalid(cf, &value[i]);
        }

        mcf->idempotency_ttl = n;
    }

    return NGX_CONF_OK;
}


/* vidgen_secret value [old ...] */
char *
ngx_http_vidgen_conf_secrets(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    ngx_int_t           rc;
    ngx_str_t           secret, *value;
    ngx_uint_t          i;
    ngx_vidgen_key_t  **key;

    if (mcf->secrets.nelts) {
        return "is duplicate";
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        rc = ngx_vidgen_secret_read(cf, &value[i], &secret);

        if (rc == NGX_DECLINED) {
            ngx_conf_log_error(i > 1 ? NGX_LOG_NOTICE : NGX_LOG_EMERG, cf, 0,
                               "\"%V\" is not set or empty", &value[i]);
            if (i > 1) {
                continue;
            }
        }

        if (rc != NGX_OK) {
            return NGX_CONF_ERROR;
        }

        key = ngx_array_push(&mcf->secrets);
        if (key == NULL) {
            return NGX_CONF_ERROR;
        }

        *key = ngx_vidgen_key_create(cf->pool, NGX_VIDGEN_HMAC_SHA256,
                                     &secret);
        if (*key == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}
