#!/usr/bin/perl

# The six steps of the README's "Adding a provider" work as they are written;
# replaced are only the hosts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 12;

use VidgenTest::Books qw(customer wrong_books);
use VidgenTest::Http qw(get post);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;
use VidgenTest::Util qw(root slurp wait_for);

my ($steps) = slurp(root() . '/README.md')
    =~ /^### Adding a provider\n(.*?)^###? /ms;
my ($definition) = $steps =~ /```nginx\n(.*?)```/s;
my ($sql) = $steps =~ /```sql\n(.*?)```/s;
my ($health, $generate) = $steps =~ /curl '?(https:[^' ]+)/g;
my ($input) = $steps =~ /-d '(\{.*?\})'/s;
my @variables = $definition =~ /env:(\w+)/g;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $provider = VidgenTest::Provider->new;

$definition =~ s{https://api\.stability\.example}{$provider->url}e
    or die 'no base';

my $nginx = VidgenTest::Nginx->new(
    vars  => { DB => $pg->edge_conninfo },
    env   => {
        STABILITY_API_KEY        => 'the-api-key',
        STABILITY_WEBHOOK_SECRET => $provider->secret,
    },
    files => { 'stability.conf' => $definition },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database  "%%DB%%";
    vidgen_monitor   interval=1h;

    vidgen_provider first {
        submit {
            url     http://127.0.0.1:1/;
            job_id  /id;
        }
        poll {
            url        http://127.0.0.1:1/$vidgen_provider_job_id;
            status     /status;
            video_url  /url;
        }
    }

    include %%PREFIX%%/stability.conf;

    server {
        listen 127.0.0.1:%%PORT%%;

        vidgen_webhook_url            http://127.0.0.1:%%PORT%%/video-webhook;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        location = /generate-video  { vidgen_generate; }
        location = /video-webhook   { vidgen_webhook; }
        location = /provider-health { vidgen_health; }
    }
}
EOT

is_deeply(\@variables, [qw(STABILITY_API_KEY STABILITY_WEBHOOK_SECRET)],
    'what the environment must have');
like($steps, qr/Put `$variables[0]` and `$variables[1]`/, 'is said');

$pg->query($sql);
is($pg->value("SELECT provider FROM models WHERE id = 'stable-video-1.0'"),
    'stability', 'the model');

my $user = customer($pg, 10);
$input =~ s/…/$user/ or die 'no user';

# its health

like($health, qr{^https://example\.com/}, 'the first request');
ok(wait_for { (get(here($health))->{json} // {})->{last_check} },
    'says its health');
is(get(here($health))->{json}{status}, 'healthy', 'it is healthy');

# a generation, its poll, its webhook

$provider->on('^POST ', body => '{"id":"s-1"}');
my $answer = post(here($generate), $input);
is_deeply([@{ $answer->{json} }{qw(provider status)}],
    ['stability', 'queued'], 'a generation');

my ($request) = grep { $_->{method} eq 'POST' } @{ $provider->requests };
my ($url) = $request->{body} =~ /"callback":"([^"]+)"/;
is($request->{body}, '{"model":"stable-video-1.0","prompt":"test video",'
    . qq("seconds":5,"callback":"$url"}), 'is asked of the provider');
is($request->{headers}{authorization}, 'Bearer the-api-key', 'with its key');

my ($headers, $body) = $provider->signed_webhook(body =>
    '{"id":"s-1","state":"done","video":{"url":"https://cdn.test/1.mp4"}}');
is(post($url, $body, $headers)->{status}, 200, 'a webhook');
is($pg->value('SELECT video_url FROM video_jobs'), 'https://cdn.test/1.mp4',
    'the job is completed');

is_deeply([wrong_books($pg)], [], 'the books are right');


sub here {
    my ($url) = @_;
    return $nginx->url($url =~ s{^https://[^/]+}{}r);
}
