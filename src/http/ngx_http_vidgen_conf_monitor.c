#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "core/ngx_vidgen_secret.h"
#include "core/ngx_vidgen_url.h"
#include "http/ngx_http_vidgen_conf.h"
#include "http/ngx_http_vidgen_conf_pass.h"


#define NGX_HTTP_VIDGEN_TELEGRAM  "https://api.telegram.org"

/* kinds of knobs: what is read, and the least that it may be */
#define NGX_HTTP_VIDGEN_NUMBER    0          /* 1 to 1000 */
#define NGX_HTTP_VIDGEN_TIME      1          /* at least 100 ms */
#define NGX_HTTP_VIDGEN_TIME_OFF  2          /* the same, or 0 */
#define NGX_HTTP_VIDGEN_SECRET    3
#define NGX_HTTP_VIDGEN_URL       4


typedef struct {
    char                      *name;
    ngx_uint_t                 kind;
    size_t                     offset;
} ngx_http_vidgen_knob_t;


static char *ngx_http_vidgen_conf_set_knob(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knobs, void *conf);
static char *ngx_http_vidgen_conf_set_value(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knob, ngx_str_t *value, void *conf);
static char *ngx_http_vidgen_conf_set_secret(ngx_conf_t *cf,
    ngx_str_t *value, ngx_str_t *secret);
static ngx_int_t ngx_http_vidgen_default_path(ngx_conf_t *cf,
    ngx_vidgen_monitor_conf_t *conf);


#define ngx_http_vidgen_monitor_knob(name, kind, field)                       \
    { name "=", NGX_HTTP_VIDGEN_##kind,                                       \
      offsetof(ngx_vidgen_monitor_conf_t, field) }

static ngx_http_vidgen_knob_t  ngx_http_vidgen_monitor_knobs[] = {
    ngx_http_vidgen_monitor_knob("interval", TIME, rule.interval),
    ngx_http_vidgen_monitor_knob("timeout", TIME, timeout),
    ngx_http_vidgen_monitor_knob("fails", NUMBER, rule.fails),
    ngx_http_vidgen_monitor_knob("passes", NUMBER, rule.passes),
    ngx_http_vidgen_monitor_knob("slow", TIME_OFF, rule.slow),
    ngx_http_vidgen_monitor_knob("poll", TIME, poll),
    ngx_http_vidgen_monitor_knob("overdue", TIME, overdue),
    ngx_http_vidgen_monitor_knob("unknown", TIME, unknown),
    ngx_http_vidgen_monitor_knob("expire", TIME, expire),
    { NULL, 0, 0 }
};


#define ngx_http_vidgen_alert_knob(name, kind, field)                         \
    { name "=", NGX_HTTP_VIDGEN_##kind,                                       \
      offsetof(ngx_vidgen_alert_conf_t, field) }

static ngx_http_vidgen_knob_t  ngx_http_vidgen_alert_knobs[] = {
    ngx_http_vidgen_alert_knob("token", SECRET, token),
    ngx_http_vidgen_alert_knob("chat", SECRET, chat),
    ngx_http_vidgen_alert_knob("url", URL, url),
    ngx_http_vidgen_alert_knob("every", TIME_OFF, every),
    ngx_http_vidgen_alert_knob("repeat", TIME_OFF, repeat),
    { NULL, 0, 0 }
};


void
ngx_http_vidgen_init_monitor(ngx_http_vidgen_main_conf_t *mcf)
{
    ngx_vidgen_monitor_conf_t  *conf;

    conf = &mcf->monitor;

    ngx_conf_init_uint_value(conf->enabled, 1);

    if (conf->rule.interval == 0) {
        conf->rule.interval = 5 * 60 * 1000;
    }

    if (conf->rule.fails == 0) {
        conf->rule.fails = 3;
    }

    if (conf->rule.passes == 0) {
        conf->rule.passes = 1;
    }

    ngx_conf_init_msec_value(conf->rule.slow, 5000);

    if (conf->timeout == 0) {
        conf->timeout = 10000;
    }

    if (conf->poll == 0) {
        conf->poll = 5000;
    }

    if (conf->overdue == 0) {
        conf->overdue = 10 * 60 * 1000;
    }

    if (conf->unknown == 0) {
        conf->unknown = 30 * 60 * 1000;
    }

    if (conf->expire == 0) {
        conf->expire = 24 * 60 * 60 * 1000;
    }
}


/* vidgen_monitor off | [interval=] [timeout=] [fails=] ... */
char *
ngx_http_vidgen_conf_monitor(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (mcf->monitor.enabled != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        mcf->monitor.enabled = 0;
        return NGX_CONF_OK;
    }

    mcf->monitor.enabled = 1;

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_vidgen_conf_set_knob(cf, &value[i],
                                           ngx_http_vidgen_monitor_knobs,
                                           &mcf->monitor);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


/* vidgen_alert telegram token=S chat=S [url=] [every=] [repeat=] */
char *
ngx_http_vidgen_conf_alert(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    char                     *rv;
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_vidgen_alert_conf_t  *alert;

    if (mcf->monitor.alert) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "telegram") != 0) {
        return "knows \"telegram\" only";
    }

    alert = ngx_pcalloc(cf->pool, sizeof(ngx_vidgen_alert_conf_t));
    if (alert == NULL) {
        return NGX_CONF_ERROR;
    }

    mcf->monitor.alert = alert;

    ngx_str_set(&alert->url, NGX_HTTP_VIDGEN_TELEGRAM);
    alert->every = 15 * 60 * 1000;

    for (i = 2; i < cf->args->nelts; i++) {
        rv = ngx_http_vidgen_conf_set_knob(cf, &value[i],
                                           ngx_http_vidgen_alert_knobs, alert);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (alert->token.len == 0 || alert->chat.len == 0) {
        return "needs \"token=\" and \"chat=\"";
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_set_knob(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knobs, void *conf)
{
    ngx_str_t                value;
    ngx_http_vidgen_knob_t  *knob;

    for (knob = knobs; knob->name; knob++) {

        if (ngx_http_vidgen_conf_knob(text, knob->name, &value)) {
            return ngx_http_vidgen_conf_set_value(cf, text, knob, &value,
                                                  conf);
        }
    }

    /* not the value: it may be a secret in the wrong place */

    value.data = text->data;
    value.len = 0;

    while (value.len < text->len && value.data[value.len] != '=') {
        value.len++;
    }

    return ngx_http_vidgen_conf_invalid(cf, &value);
}


static char *
ngx_http_vidgen_conf_set_value(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_vidgen_knob_t *knob, ngx_str_t *value, void *conf)
{
    void       *field;
    ngx_int_t   n;

    field = (u_char *) conf + knob->offset;

    if (knob->kind == NGX_HTTP_VIDGEN_SECRET) {
        return ngx_http_vidgen_conf_set_secret(cf, value, field);
    }

    if (knob->kind == NGX_HTTP_VIDGEN_URL) {

        while (value->len && value->data[value->len - 1] == '/') {
            value->len--;
        }

        if (ngx_vidgen_url_origin(value) == 0
            || !ngx_vidgen_url_is_clean(value))
        {
            return "must have in \"url=\" one that begins with \"https://\""
                   " or \"http://\"";
        }

        *(ngx_str_t *) field = *value;

        return NGX_CONF_OK;
    }

    if (knob->kind == NGX_HTTP_VIDGEN_NUMBER) {
        n = ngx_atoi(value->data, value->len);

        if (n < 1 || n > 1000) {
            return ngx_http_vidgen_conf_invalid(cf, text);
        }

        *(ngx_uint_t *) field = n;

        return NGX_CONF_OK;
    }

    n = ngx_parse_time(value, 0);

    if (n < 100 && !(knob->kind == NGX_HTTP_VIDGEN_TIME_OFF && n == 0)) {
        return ngx_http_vidgen_conf_invalid(cf, text);
    }

    *(ngx_msec_t *) field = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_vidgen_conf_set_secret(ngx_conf_t *cf, ngx_str_t *value,
    ngx_str_t *secret)
{
    ngx_int_t  rc;

    rc = ngx_vidgen_secret_read(cf, value, secret);

    if (rc == NGX_DECLINED) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" is not set or empty",
                           value);
    }

    if (rc != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    /* both end up in a URL or in JSON */

    return ngx_vidgen_url_is_clean(secret)
           ? NGX_CONF_OK : "has a \"token=\" or \"chat=\" with characters that"
                           " neither has";
}


/* vidgen_state_path path */
char *
ngx_http_vidgen_conf_state_path(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_vidgen_main_conf_t *mcf = conf;

    ngx_str_t   *value;
    ngx_path_t  *path;

    if (mcf->monitor.path) {
        return "is duplicate";
    }

    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    if (path == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;
    path->name = value[1];

    while (path->name.len > 1 && path->name.data[path->name.len - 1] == '/') {
        path->name.len--;
    }

    if (path->name.len == 0
        || ngx_conf_full_name(cf->cycle, &path->name, 0) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;

    mcf->monitor.path = path;

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_vidgen_check_monitor(ngx_conf_t *cf,
    ngx_http_vidgen_main_conf_t *mcf)
{
    ngx_uint_t                   i;
    ngx_vidgen_monitor_conf_t   *conf;
    ngx_http_vidgen_location_t  *location;

    conf = &mcf->monitor;

    conf->providers = &mcf->providers;
    conf->zone = mcf->zone;
    conf->database = mcf->database;
    conf->ttl = mcf->idempotency_ttl;

    location = mcf->locations.elts;

    for (i = 0; i < mcf->locations.nelts && conf->ca_file.len == 0; i++) {
        ngx_http_vidgen_pass_certificate(cf, &location[i], &conf->ca_file);
    }

    return conf->path ? NGX_OK : ngx_http_vidgen_default_path(cf, conf);
}


/* beside the folders that nginx was built to keep its own files in */
static ngx_int_t
ngx_http_vidgen_default_path(ngx_conf_t *cf, ngx_vidgen_monitor_conf_t *conf)
{
    u_char      *p;
    size_t       len;
    ngx_str_t    proxy = ngx_string(NGX_HTTP_PROXY_TEMP_PATH);
    ngx_path_t  *path;

    len = proxy.len;

    while (len > 0 && proxy.data[len - 1] != '/') {
        len--;
    }

    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    p = ngx_pnalloc(cf->pool, len + sizeof("vidgen"));

    if (path == NULL || p == NULL) {
        return NGX_ERROR;
    }

    path->name.data = p;
    path->name.len = ngx_sprintf(p, "%*svidgen", len, proxy.data) - p;
    p[path->name.len] = '\0';

    if (ngx_conf_full_name(cf->cycle, &path->name, 0) != NGX_OK) {
        return NGX_ERROR;
    }

    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;

    conf->path = path;

    return NGX_OK;
}
