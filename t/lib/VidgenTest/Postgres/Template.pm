package VidgenTest::Postgres::Template;

# Data directories that are made once and copied for each cluster: "plain" is
# as initdb leaves it, "migrated" as a clean stop after the migrations does;
# it has no database but "postgres", so that CREATE DATABASE needs "plain".
#
# Both lie in build/postgres/KEY, or in a folder for temporary files where
# build/ is not ours to write.  KEY is a digest of all that shapes them, so a
# template is never out of date.  They are of this user, who copies them; that
# the user who runs the server may not come near does not matter.
#
# Who copies holds a shared lock.  Who builds or removes holds an exclusive one,
# builds under another name, and renames when all is there.

use strict;
use warnings;

use Digest::SHA;
use Fcntl qw(:flock);
use File::Glob qw(bsd_glob);
use File::Path qw(remove_tree);
use File::Spec;
use File::Temp qw(tempdir);

my $kept = 3;                       # templates, those used last


# Copies "plain" or "migrated" to where nothing is yet.  False where there is
# no folder for templates.
sub copy {
    my ($name, $to, %opt) = @_;

    my ($folder, $lock) = _folder($opt{root}) or return 0;
    my $template = "$folder/" . _key(%opt);

    flock $lock, LOCK_SH or die "flock: $!";
    if (!-d $template) {
        flock $lock, LOCK_EX or die "flock: $!";
        _build($template) unless -d $template;
    }

    utime undef, undef, $template;
    _copy("$template/$name", $to);
    return 1;                       # and the lock is gone
}


# The folder, and the file in it that is to be locked.
sub _folder {
    my ($root) = @_;

    my $build = "$root/build";
    mkdir $build if -o $root;

    for my $folder (-o $build ? "$build/postgres" : (),
        File::Spec->tmpdir . "/vidgen-postgres-$>")
    {
        mkdir $folder, 0700;
        my ($mode, $owner) = (lstat $folder)[2, 4] or next;
        next if !-d _ || $owner != $> || $mode & 077;
        open my $lock, '>>', "$folder/lock" or next;
        return ($folder, $lock);
    }
    return;
}


# The machine's start is in it: what was not written to the disk by then may
# be there in name only.
sub _key {
    my (%opt) = @_;

    my $sha = Digest::SHA->new(256);
    for my $file (map { "$opt{bin}/$_" } qw(initdb postgres)) {
        my @stat = stat $file;
        $sha->add("$file @stat[0, 1, 7, 9, 10]\n");
    }

    my $here = __FILE__;
    for my $file ('/proc/sys/kernel/random/boot_id', $here,
        $here =~ s{/Template\.pm$}{.pm}r, bsd_glob("$opt{root}/sql/*.sql"))
    {
        open my $f, '<:raw', $file or next;
        my $text = do { local $/; <$f> } // '';
        $sha->add($file =~ s{.*/}{}r, ' ', length $text, "\n", $text);
    }
    return substr $sha->hexdigest, 0, 32;
}


# With the exclusive lock, so what is half-made is of nobody who still lives.
sub _build {
    my ($template) = @_;

    my ($folder) = $template =~ m{^(.*)/};
    remove_tree(bsd_glob("$folder/new-*"));

    my $new = tempdir('new-XXXXXXXX', DIR => $folder, CLEANUP => 1);
    my $pg = VidgenTest::Postgres->new(fresh => 1, fsync => 0, start => 0);
    my $data = $pg->dir . '/data';

    _copy($data, "$new/plain");
    $pg->start;
    $pg->migrate;
    _drop_templates($pg);
    $pg->stop;
    _copy($data, "$new/migrated");
    $pg->destroy;

    rename $new, $template or die "$template: $!";
    _remove_old($folder);
}


# They are two thirds of the files, and to make files is what a copy takes its
# time for.
sub _drop_templates {
    my ($pg) = @_;

    for my $database (qw(template0 template1)) {
        $pg->query("ALTER DATABASE $database IS_TEMPLATE false");
        $pg->query("DROP DATABASE $database");
    }
}


sub _remove_old {
    my ($folder) = @_;

    my %used = map { $_ => (stat)[9] }
        grep { m{/[0-9a-f]{32}$} } bsd_glob("$folder/*");
    my @all = sort { $used{$b} <=> $used{$a} } keys %used;
    remove_tree(@all[$kept .. $#all]);
}


# The copy is of this user.
sub _copy {
    my ($from, $to) = @_;

    local $?;
    system('cp', '-R', '--preserve=mode', '--reflink=auto', '--', $from, $to);
    die "vidgen test: cannot copy $from to $to\n" if $?;
}


1;
